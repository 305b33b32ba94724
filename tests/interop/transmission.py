"""Transmission as a peer: seeds or downloads torrents, and prints what happens as JSON, one object per line.

It ends, and Transmission with it, when its standard input is closed, which also happens if whoever started it dies.
"""

import argparse
import base64
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

DAEMON = "/usr/bin/transmission-daemon"
# Of RPC's `status`: it waits to be checked, or is checked; downloads; seeds.
CHECKING, DOWNLOADING, SEEDING = (1, 2), 4, 6
FIELDS = ["id", "name", "status", "metadataPercentComplete", "leftUntilDone", "peers", "peersFrom", "trackerStats"]

lock = threading.Lock()


def say(event, **fields):
    with lock:
        print(json.dumps({"event": event, **fields}), flush=True)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrents", nargs="*")
    parser.add_argument("--dir", required=True, help="the folder that holds, or will hold, the data")
    parser.add_argument("--config", required=True, type=pathlib.Path, help="a folder of its own, which does not exist")
    parser.add_argument("--listen", required=True, metavar="IP")
    parser.add_argument("--dht-node", action="append", default=[], metavar="IP:PORT", help="a way into the DHT")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, as JSON")
    return parser.parse_args()


def free_port(ip):
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return probe.getsockname()[1]


def settings(args):
    """It finds peers in no way that is not asked for; whatever it writes is in its file at once, under its own name."""
    chosen = (setting.split("=", 1) for setting in args.set)
    return {
        "bind-address-ipv4": args.listen, "bind-address-ipv6": "::1", "peer-port": free_port(args.listen),
        "rpc-bind-address": "127.0.0.1", "rpc-port": free_port("127.0.0.1"),
        "download-dir": args.dir, "rename-partial-files": False, "cache-size-mb": 0,
        "dht-enabled": bool(args.dht_node), "lpd-enabled": False, "pex-enabled": False,
        "utp-enabled": False, "port-forwarding-enabled": False, "message-level": 3,
        **{name: json.loads(value) for name, value in chosen},
    }


class Transmission:
    def __init__(self, args):
        chosen = settings(args)
        args.config.mkdir()
        (args.config / "settings.json").write_text(json.dumps(chosen))
        (args.config / "dht.bootstrap").write_text("".join(node.replace(":", " ") + "\n" for node in args.dht_node))
        # Proxies of whoever runs the tests are none of its business.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        # It dies with whoever watches it.
        self.daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", DAEMON, "--foreground", "--config-dir", args.config],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
        threading.Thread(target=self.pass_on, daemon=True).start()
        self.url = "http://127.0.0.1:%d/transmission/rpc" % chosen["rpc-port"]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.session = ""
        while True:
            try:
                self.rpc("session-get")
                break
            except urllib.error.URLError:
                time.sleep(0.02)
        say("listening", address="%s:%d" % (args.listen, chosen["peer-port"]))

    def pass_on(self):
        """What it prints is for whoever reads why a test failed."""
        for line in self.daemon.stdout:
            say("log", text=line.rstrip())
        say("ended", code=self.daemon.wait())
        os._exit(1)

    def rpc(self, method, **arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        request = urllib.request.Request(self.url, body, {"X-Transmission-Session-Id": self.session})
        try:
            answer = json.load(self.opener.open(request))
        except urllib.error.HTTPError as error:
            # It tells its session's id to whoever does not know it.
            if error.code != 409:
                raise
            self.session = error.headers["X-Transmission-Session-Id"]
            return self.rpc(method, **arguments)
        if answer["result"] != "success":
            raise RuntimeError(f"{method}: {answer['result']}")
        return answer["arguments"]

    def add(self, torrent):
        if torrent.startswith("magnet:"):
            self.rpc("torrent-add", filename=torrent)
        else:
            self.rpc("torrent-add", metainfo=base64.b64encode(pathlib.Path(torrent).read_bytes()).decode())

    def torrents(self):
        return self.rpc("torrent-get", fields=FIELDS)["torrents"]


def peer(peer):
    return {"address": "%s:%d" % (peer["address"], peer["port"]), "incoming": peer["isIncoming"],
            "encrypted": peer["isEncrypted"], "flags": peer["flagStr"]}


def look(torrent, seen):
    """Tells what is new of a torrent since the last look."""
    facts = [("peers", {"peers": [peer(one) for one in torrent["peers"]]}), ("sources", torrent["peersFrom"])]
    if torrent["metadataPercentComplete"] == 1 and torrent["status"] in (DOWNLOADING, SEEDING):
        facts.append(("checked", {}))
        if torrent["status"] == SEEDING and torrent["leftUntilDone"] == 0:
            facts.append(("finished", {}))
    if any(tracker["lastAnnounceSucceeded"] for tracker in torrent["trackerStats"]):
        facts.append(("announced", {}))
    for event, fields in facts:
        if seen.get((torrent["id"], event)) != fields:
            seen[torrent["id"], event] = fields
            say(event, name=torrent["name"], **fields)


def main():
    args = options()
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    transmission = Transmission(args)
    for torrent in args.torrents:
        transmission.add(torrent)
    seen = {}
    while not over.wait(0.1):
        for torrent in transmission.torrents():
            look(torrent, seen)
    os._exit(0)


main()
