"""libtorrent, tuned for speed, as one of the clients that are measured: it downloads, seeds or checks one torrent.

It prints `ready` when it has started, waits for a line on its standard input, does what it is for, and prints `done`. A seed prints
`ready` when it seeds. It ends when its standard input is closed.
"""

import sys

import libtorrent as lt


def tuned(listen):
    """The preset for fast seeds, without what it has for slow peers, and with what a fast download needs."""
    default, preset = lt.default_settings(), dict(lt.high_performance_seed())
    slow = {"request_timeout", "peer_timeout", "inactivity_timeout", "max_failcount", "suggest_mode", "max_rejects"}
    settings = {name: value for name, value in preset.items() if name not in slow and default.get(name) != value}
    settings |= {"max_queued_disk_bytes": 64 << 20, "hashing_threads": 2, "aio_threads": 2}
    # TCP without a cipher, between addresses of this machine, and nothing else.
    settings |= {name: False for name in (
        "enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp")}
    settings |= {"out_enc_policy": 2, "in_enc_policy": 2, "allow_multiple_connections_per_ip": True}
    kinds = lt.alert.category_t
    noted = kinds.status_notification | kinds.storage_notification | kinds.error_notification
    settings |= {"listen_interfaces": listen, "outgoing_interfaces": listen.rsplit(":", 1)[0], "alert_mask": noted}
    return {name: value for name, value in settings.items() if name in default}


def params(torrent, folder, complete):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if complete:
        params.flags |= lt.torrent_flags.seed_mode
    return params


def wait(session, kind):
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert, lt.hash_failed_alert)):
                sys.exit(alert.message())
            if isinstance(alert, kind):
                return


def say(what):
    print(what, flush=True)


def download(session, torrent, folder, peer):
    say("ready")
    sys.stdin.readline()
    handle = session.add_torrent(params(torrent, folder, False))
    host, port = peer.rsplit(":", 1)
    handle.connect_peer((host, int(port)))
    wait(session, lt.torrent_finished_alert)
    # All pieces have passed then; that they are in the file is another matter.
    handle.flush_cache()
    wait(session, lt.cache_flushed_alert)
    say("done")


def check(session, torrent, folder):
    handle = session.add_torrent(params(torrent, folder, True))
    # It believes that everything is there, and says that it has checked so.
    wait(session, lt.torrent_checked_alert)
    say("ready")
    sys.stdin.readline()
    handle.force_recheck()
    wait(session, lt.torrent_checked_alert)
    if handle.status().progress < 1:
        sys.exit("the check found less than there is")
    say("done")


def main():
    role, torrent, folder, listen, *peer = sys.argv[1:]
    session = lt.session(tuned(listen))
    if role == "download":
        download(session, torrent, folder, *peer)
    elif role == "check":
        check(session, torrent, folder)
    else:
        session.add_torrent(params(torrent, folder, True))
        say("ready")
    sys.stdin.read()


main()
