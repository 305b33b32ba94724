"""libtorrent's resume data: makes some in the midst of a download, or reads some and prints what it understood.

make TORRENT --dir DIR --peer IP:PORT --listen IP:PORT --pieces N --out FILE
read FILE
"""

import argparse
import json
import sys
import time

import libtorrent as lt


def options():
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    make = roles.add_parser("make")
    make.add_argument("torrent")
    make.add_argument("--dir", required=True)
    make.add_argument("--peer", required=True)
    make.add_argument("--listen", required=True)
    make.add_argument("--pieces", type=int, required=True, help="how many to have before it ends")
    make.add_argument("--out", required=True)
    read = roles.add_parser("read")
    read.add_argument("file")
    return parser.parse_args()


def make(args):
    ses = lt.session({
        "listen_interfaces": args.listen, "alert_mask": lt.alert.category_t.all_categories,
        "enable_incoming_utp": False, "enable_outgoing_utp": False,
        "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    })
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.dir
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    handle = ses.add_torrent(params)
    handle.set_download_limit(4 << 20)
    host, port = args.peer.rsplit(":", 1)
    handle.connect_peer((host, int(port)))
    deadline = time.monotonic() + 60
    while handle.status().num_pieces < args.pieces:
        if time.monotonic() > deadline:
            sys.exit("libtorrent got no data")
        time.sleep(0.02)
    ses.pause()
    flags = lt.torrent_handle.flush_disk_cache | lt.torrent_handle.save_info_dict
    handle.save_resume_data(flags)
    while time.monotonic() < deadline:
        ses.wait_for_alert(100)
        for alert in ses.pop_alerts():
            if isinstance(alert, lt.save_resume_data_alert):
                with open(args.out, "wb") as out:
                    out.write(lt.write_resume_data_buf(alert.params))
                return
            if isinstance(alert, lt.save_resume_data_failed_alert):
                sys.exit(alert.message())
    sys.exit("libtorrent saved no resume data")


def read(args):
    with open(args.file, "rb") as file:
        params = lt.read_resume_data(file.read())
    print(json.dumps({
        "info_hash": str(params.info_hashes.v1),
        "save_path": params.save_path,
        "pieces": sum(params.have_pieces),
        "all": len(params.have_pieces),
        "unfinished": {str(piece): sum(blocks) for piece, blocks in params.unfinished_pieces.items()},
        "peers": [f"{host}:{port}" for host, port in params.peers],
        "total_downloaded": params.total_downloaded,
        "added_time": params.added_time,
        "metadata": params.ti is not None,
    }))


def main():
    args = options()
    {"make": make, "read": read}[args.role](args)


main()
