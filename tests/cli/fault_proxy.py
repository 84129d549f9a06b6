#!/usr/bin/env python3
"""An HTTP proxy before a real registry that fails on request.

Usage: fault_proxy.py BACKEND_PORT PORT_FILE RULES LOG [CERT KEY CA]. With CERT and KEY it speaks
TLS to both sides. RULES is a file of JSON, read anew for each request: a list of {"method", "path":
a regular expression, "skip": so many fit unharmed, "times": so often, "do": what, "after": bytes}.
What: "cut-request" (the backend gets so many bytes of the body, then both sides are closed),
"cut-response" (the client gets so many bytes of the body), "close" (no answer), "half-header",
"stall" (after so many bytes of the answer until the proxy ends), "trickle" (after so many, ten
bytes at a time), "forbid" (403), "busy" (503),
"stale" (401 with the challenge that the backend has for nobody). LOG gets a JSON line a request:
method, path, status, and how many bytes of its body came.
"""
import http.client
import http.server
import json
import os
import re
import ssl
import sys
import threading
import time

backend, port_file, rules_file, log_file = sys.argv[1:5]
tls = sys.argv[5:]
lock = threading.Lock()
counts = {}
PIECE = 65536


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def rule(self):
        with open(rules_file) as f:
            rules = json.load(f)
        for rule in rules:
            if rule.get("method", self.command) != self.command:
                continue
            if not re.search(rule.get("path", ""), self.path):
                continue
            with lock:
                key = json.dumps(rule)
                counts[key] = counts.get(key, 0) + 1
                skip = rule.get("skip", 0)
                if skip < counts[key] <= skip + rule.get("times", 1):
                    return rule
        return {}

    def note(self, status, body):
        with lock, open(log_file, "a") as f:
            f.write(json.dumps({"method": self.command, "path": self.path, "status": status,
                                "body": body}) + "\n")

    def connect(self):
        if not tls:
            return http.client.HTTPConnection("127.0.0.1", int(backend))
        return http.client.HTTPSConnection("localhost", int(backend),
                                           context=ssl.create_default_context(cafile=tls[2]))

    def simple(self, status, headers=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def drain(self):
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            piece = self.rfile.read(min(left, PIECE))
            if not piece:
                break
            left -= len(piece)

    def serve(self):
        rule = self.rule()
        what = rule.get("do", "")
        after = rule.get("after", 0)
        length = int(self.headers.get("Content-Length") or 0)
        if what == "close":
            self.note(0, 0)
            self.close_connection = True
            return
        if what == "half-header":
            self.note(0, 0)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            self.close_connection = True
            return
        if what in ("forbid", "busy"):
            self.drain()
            self.note(403 if what == "forbid" else 503, length)
            return self.simple(403 if what == "forbid" else 503)
        if what == "stale":
            self.drain()
            probe = self.connect()
            probe.request(self.command, self.path, headers={"Host": self.headers["Host"]})
            challenge = probe.getresponse().headers.get("WWW-Authenticate", "")
            probe.close()
            self.note(401, length)
            return self.simple(401, {"WWW-Authenticate": challenge})
        upstream = self.connect()
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for key, value in self.headers.items():
            upstream.putheader(key, value)
        upstream.endheaders()
        left = length
        sent = 0
        while left > 0:
            want = min(left, PIECE, after - sent if what == "cut-request" else PIECE)
            piece = self.rfile.read(want) if want > 0 else b""
            if not piece:
                break
            upstream.send(piece)
            left -= len(piece)
            sent += len(piece)
        if what == "cut-request":
            self.note(0, sent)
            upstream.close()
            self.close_connection = True
            return
        self.relay(upstream, what, after, length)

    def relay(self, upstream, what, after, length):
        answer = upstream.getresponse()
        self.note(answer.status, length)
        self.send_response_only(answer.status, answer.reason)
        for key, value in answer.headers.items():
            if key.lower() not in ("connection", "transfer-encoding"):
                self.send_header(key, value)
        self.end_headers()
        given = 0
        while True:
            want = PIECE
            if what in ("cut-response", "stall"):
                want = min(want, after - given)
            if what == "trickle" and given >= after:
                want = 10
                time.sleep(0.1)
            piece = answer.read(want) if want > 0 else b""
            if not piece:
                break
            self.wfile.write(piece)
            given += len(piece)
        upstream.close()
        if what == "stall":
            self.wfile.flush()
            threading.Event().wait()
        if what == "cut-response":
            self.close_connection = True

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls[0], tls[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(port_file + ".new", "w") as f:
    f.write(str(server.server_port))
os.rename(port_file + ".new", port_file)
server.serve_forever()
