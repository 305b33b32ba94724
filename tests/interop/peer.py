"""libtorrent as a peer: seeds or downloads torrents, and prints what happens as JSON, one object per line.

It ends when its standard input is closed, which also happens if whoever started it dies, or when its time is over.
"""

import argparse
import json
import sys
import threading
import time

import libtorrent as lt

NOTED = lt.alert.category_t.status_notification | lt.alert.category_t.error_notification
NOTED |= lt.alert.category_t.dht_notification | lt.alert.category_t.tracker_notification
NOTED |= lt.alert.category_t.connect_notification | lt.alert.category_t.storage_notification


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["seed", "leech", "node"])
    parser.add_argument("torrents", nargs="*")
    parser.add_argument("--dir", required=True, help="the folder that holds, or will hold, the data")
    parser.add_argument("--listen", required=True, metavar="IP:PORT")
    parser.add_argument("--peer", action="append", default=[], metavar="IP:PORT")
    parser.add_argument("--dht-node", metavar="IP:PORT", help="run a DHT node, which knows this one, or nobody")
    parser.add_argument("--upload-limit", type=int, default=0, metavar="BYTES", help="per second and torrent")
    parser.add_argument("--download-limit", type=int, default=0, metavar="BYTES", help="per second and torrent")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as JSON")
    parser.add_argument("--limit", type=float, default=120, metavar="SECONDS")
    return parser.parse_args()


def dht(node):
    """The settings of a DHT node on one machine with all others."""
    if node is None:
        return {"enable_dht": False}
    return {
        "enable_dht": True, "dht_bootstrap_nodes": node,
        "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
    }


def session(args):
    chosen = (setting.split("=", 1) for setting in args.set)
    return lt.session({
        "listen_interfaces": args.listen,
        "alert_mask": NOTED,
        # The peers here all have the same address.
        "allow_multiple_connections_per_ip": True,
        # Only those who ask for it speak uTP; nothing may leave this machine.
        "enable_incoming_utp": False, "enable_outgoing_utp": False,
        "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        **dht(args.dht_node),
        **{name: json.loads(value) for name, value in chosen},
    })


def add(ses, torrent, args):
    if torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(torrent)
    params.save_path = args.dir
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    if args.role == "seed":
        # A seed that lacks something gives what it has, and asks nobody for the rest.
        params.flags |= lt.torrent_flags.upload_mode
    handle = ses.add_torrent(params)
    handle.set_upload_limit(args.upload_limit)
    handle.set_download_limit(args.download_limit)
    for peer in args.peer:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host.strip("[]"), int(port)))


def tell(alert, unwritten):
    if isinstance(alert, lt.listen_succeeded_alert):
        host = f"[{alert.address}]" if ":" in alert.address else alert.address
        say("listening", address=f"{host}:{alert.port}")
    elif isinstance(alert, lt.torrent_checked_alert):
        status = alert.handle.status()
        say("checked", name=status.name, pieces=status.num_pieces)
    elif isinstance(alert, lt.torrent_finished_alert):
        # All pieces have passed, but the last of them may still wait to be written.
        unwritten.add(alert.handle)
        alert.handle.flush_cache()
    elif isinstance(alert, lt.cache_flushed_alert) and alert.handle in unwritten:
        unwritten.remove(alert.handle)
        say("finished", name=alert.handle.status().name)
    else:
        # For whoever reads why a test failed.
        say("alert", what=alert.what(), message=alert.message())


def enter_dht(ses, unwritten, over):
    """Waits until the DHT is entered: who is added before is not looked for in it at once, but after a quarter of an hour."""
    while not over.is_set():
        ses.wait_for_alert(100)
        alerts = ses.pop_alerts()
        for alert in alerts:
            tell(alert, unwritten)
        if any(isinstance(alert, lt.dht_bootstrap_alert) for alert in alerts):
            return


def main():
    args = options()
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    ses = session(args)
    unwritten = set()
    if args.dht_node:
        enter_dht(ses, unwritten, over)
    for torrent in args.torrents:
        add(ses, torrent, args)
    deadline = time.monotonic() + args.limit
    while not over.is_set() and time.monotonic() < deadline:
        ses.wait_for_alert(100)
        for alert in ses.pop_alerts():
            tell(alert, unwritten)


main()
