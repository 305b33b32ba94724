"""A SOCKS 5 proxy with a password, for tests. It prints whom it connected to, or sent a datagram, as JSON, one object per line.

It ends when its standard input is closed, which also happens if whoever started it dies.
"""

import json
import select
import socket
import socketserver
import struct
import sys
import threading

LOGIN = (b"me", b"secret")


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def read(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the end")
        data += part
    return data


def text(connection):
    return read(connection, read(connection, 1)[0])


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def destination(frame):
    """Where a datagram is to go (RFC 1928, 7), and what it holds."""
    assert frame[:3] == b"\0\0\0", frame
    if frame[3] == 3:
        end = 5 + frame[4]
        host = frame[5:end].decode()
    else:
        end = 8
        host = socket.inet_ntoa(frame[4:8])
    port, = struct.unpack(">H", frame[end:end + 2])
    return host, port, frame[end + 2:]


def pass_datagrams_on(client):
    """Does so until the connection that asked for it is closed."""
    inside, outside = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with inside, outside:
        inside.bind(("127.0.0.1", 0))
        outside.bind(("127.0.0.1", 0))
        # The address is left out: it is ours.
        client.sendall(b"\5\0\0\1\0\0\0\0" + struct.pack(">H", inside.getsockname()[1]))
        whose, told = None, set()
        while True:
            ready, _, _ = select.select([client, inside, outside], [], [])
            if client in ready and not client.recv(1):
                return
            if inside in ready:
                frame, whose = inside.recvfrom(65536)
                host, port, payload = destination(frame)
                if (host, port) not in told:
                    told.add((host, port))
                    say("relayed", to=f"{host}:{port}")
                outside.sendto(payload, (host, port))
            if outside in ready:
                payload, (host, port) = outside.recvfrom(65536)
                frame = b"\0\0\0\1" + socket.inet_aton(host) + struct.pack(">H", port)
                inside.sendto(frame + payload, whose)


class Socks(socketserver.BaseRequestHandler):
    def handle(self):
        client = self.request
        _, count = read(client, 2)
        if 2 not in read(client, count):
            client.sendall(b"\5\xff")
            return
        client.sendall(b"\5\2")
        read(client, 1)
        right = (text(client), text(client)) == LOGIN
        client.sendall(b"\1\0" if right else b"\1\1")
        if not right:
            say("refused")
            return
        _, command, _, kind = read(client, 4)
        host = socket.inet_ntoa(read(client, 4)) if kind == 1 else text(client).decode()
        port, = struct.unpack(">H", read(client, 2))
        if command == 3:
            pass_datagrams_on(client)
            return
        try:
            server = socket.create_connection((host, port))
        except OSError:
            client.sendall(b"\5\5\0\1\0\0\0\0\0\0")
            return
        say("connected", to=f"{host}:{port}", command=command)
        client.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def main():
    server = Server(("127.0.0.1", 0), Socks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("serving", port=server.server_address[1])
    sys.stdin.read()


main()
