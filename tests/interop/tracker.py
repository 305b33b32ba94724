"""A tracker for tests: HTTP, HTTPS and UDP, for a few peers on loopback. It prints what it hears as JSON, one object per line.

It ends when its standard input is closed, which also happens if whoever started it dies.
"""

import argparse
import ipaddress
import json
import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes

EVENTS = ["", "completed", "started", "stopped"]
MAGIC = 0x41727101980

swarms = {}
lock = threading.Lock()


def say(event, **fields):
    with lock:
        print(json.dumps({"event": event, **fields}), flush=True)


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, (bytes, str)):
        value = value.encode() if isinstance(value, str) else value
        return b"%d:%s" % (len(value), value)
    pairs = sorted((key.encode() if isinstance(key, str) else key, value[key]) for key in value)
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"


def compact(peer):
    ip, port = peer
    return ipaddress.ip_address(ip).packed + struct.pack(">H", port)


def announce(way, info_hash, peer, event, left, interval):
    """Notes a peer; the others of its kind of address."""
    swarm = swarms.setdefault(info_hash, {})
    if event == "stopped":
        swarm.pop(peer, None)
    else:
        swarm[peer] = left
    say("announce", way=way, hash=info_hash.hex(), peer="%s:%d" % peer, told=event, left=left)
    return [other for other in swarm if other != peer]


def figures(info_hash):
    lefts = swarms.get(info_hash, {}).values()
    seeds = sum(left == 0 for left in lefts)
    return seeds, len(lefts) - seeds


class Web(BaseHTTPRequestHandler):
    interval = 60

    def do_GET(self):
        path, _, query = self.path.partition("?")
        fields = {}
        for pair in query.split("&"):
            key, _, value = pair.partition("=")
            fields[key] = unquote_to_bytes(value)
        say("request", path=path, agent=self.headers.get("User-Agent", ""), proxied=path.startswith("http"))
        if path.endswith("/elsewhere/announce"):
            self.send_response(302)
            self.send_header("Location", "/announce?" + query)
            self.end_headers()
            return
        info_hash = fields["info_hash"]
        if path.endswith("/scrape"):
            seeds, others = figures(info_hash)
            body = {"files": {info_hash: {"complete": seeds, "downloaded": 0, "incomplete": others}}}
        else:
            peer = (self.client_address[0], int(fields["port"]))
            others = announce(self.server.way, info_hash, peer, fields.get("event", b"").decode(),
                              int(fields["left"]), self.interval)
            v4 = b"".join(compact(other) for other in others if ":" not in other[0])
            v6 = b"".join(compact(other) for other in others if ":" in other[0])
            body = {"interval": self.interval, "peers": v4, "peers6": v6}
        self.answer(bencode(body))

    def answer(self, body):
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            import gzip
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve_http(certificate=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    server.way = "http"
    if certificate:
        server.way = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def answer(packet, sender, connections):
    connection, action, transaction = struct.unpack(">QII", packet[:16])
    head = struct.pack(">II", action, transaction)
    if action == 0:
        if connection != MAGIC:
            return None
        connections.add(sender)
        return head + struct.pack(">Q", 7)
    if connection != 7 or sender not in connections:
        return struct.pack(">II", 3, transaction) + b"connection id?"
    info_hash = packet[16:36]
    if action == 2:
        seeds, others = figures(info_hash)
        return head + struct.pack(">III", seeds, 0, others)
    left, = struct.unpack(">Q", packet[64:72])
    event, = struct.unpack(">I", packet[80:84])
    port, = struct.unpack(">H", packet[96:98])
    others = announce("udp", info_hash, (sender[0], port), EVENTS[event], left, 60)
    seeds, rest = figures(info_hash)
    return head + struct.pack(">III", 60, rest, seeds) + b"".join(compact(other) for other in others)


def serve_udp():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve():
        connections = set()
        while True:
            packet, sender = server.recvfrom(4096)
            reply = answer(packet, sender, connections)
            if reply:
                server.sendto(reply, sender)

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", help="the file with the key and the certificate for HTTPS")
    args = parser.parse_args()
    ports = {"http": serve_http(), "udp": serve_udp()}
    if args.certificate:
        ports["https"] = serve_http(args.certificate)
    say("serving", **ports)
    sys.stdin.read()


main()
