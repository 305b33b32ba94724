"""A server of the files in a folder that knows ranges and keeps connections: `ranges.py FOLDER [CERTIFICATE]`.

Prints its port. With a certificate, in a file together with its key, it speaks HTTPS. Python's own server does none of it.
"""
import http.server
import pathlib
import ssl
import sys
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        file = pathlib.Path(sys.argv[1]) / path.lstrip("/")
        if not file.is_file():
            return self.send_error(404)
        data, asked = file.read_bytes(), self.headers.get("Range")
        first, last = 0, len(data) - 1
        if asked:
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        body = data[first:last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_address[1], flush=True)
server.serve_forever()
