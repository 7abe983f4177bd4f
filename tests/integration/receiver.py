"""A subscriber in a process of its own: receiver.py KIND ADDRESS RECORD.

KIND: http, tcp (JSON-RPC with answers), udp (ADDRESS: a port) or unix (ADDRESS: a path). The text of each event, which is
JSON, is written to the file RECORD, a line each, before the event is answered.
"""

import http.server
import json
import os
import socket
import socketserver
import sys


def main(kind, address, path):
    record = open(path, "a")

    def note(text):
        print(text, file=record, flush=True)

    class Web(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            note(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Rpc(socketserver.BaseRequestHandler):
        def handle(self):
            decoder, text = json.JSONDecoder(), ""
            while data := self.request.recv(65536):
                text += data.decode()
                answers = []
                while text:
                    try:
                        request, end = decoder.raw_decode(text)
                    except ValueError:
                        break  # the rest is on its way
                    note(text[:end])
                    answers.append(json.dumps({"jsonrpc": "2.0", "result": "OK", "id": request["id"]}))
                    text = text[end:]
                self.request.sendall("".join(answers).encode())

    class RpcServer(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    if kind == "http":
        http.server.ThreadingHTTPServer(("127.0.0.1", int(address)), Web).serve_forever()
    elif kind == "tcp":
        RpcServer(("127.0.0.1", int(address)), Rpc).serve_forever()
    elif kind in ("udp", "unix"):
        receiver = socket.socket(socket.AF_INET if kind == "udp" else socket.AF_UNIX, socket.SOCK_DGRAM)
        if kind == "unix" and os.path.exists(address):
            os.unlink(address)  # of one that was killed
        receiver.bind(("127.0.0.1", int(address)) if kind == "udp" else address)
        while True:
            note(receiver.recv(65536).decode())
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
