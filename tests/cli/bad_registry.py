#!/usr/bin/env python3
"""A registry that misbehaves on request: serves one image of an OCI layout under many names.

Usage: bad_registry.py LAYOUT PORT_FILE. The repository says how: good, cut (the blob ends early,
each answer a little later; ranges work), norange (ranges are ignored), stall, digest (other bytes),
short (fewer bytes than the descriptor says), huge (an endless manifest), redirect (the blob is on
another port, where no Authorization may arrive), flaky (every other answer is 503), deny,
take (uploads are taken; the first PATCH only by a third, then the connection is closed).
"""
import hashlib
import http.server
import json
import os
import re
import sys
import threading
import time

layout, port_file = sys.argv[1:]
index = json.load(open(f"{layout}/index.json"))
top = index["manifests"][0]["digest"].split(":")[1]
requests = {}
leaks = []
# What /uploads tells: bytes that PATCHes brought, where each began, how many digests were wrong.
uploads = {"patched": 0, "ranges": [], "wrong": 0}
sessions = {}


def blob(digest):
    try:
        with open(f"{layout}/blobs/sha256/{digest}", "rb") as f:
            return f.read()
    except OSError:
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=None, send=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if send is None else body[:send])
        if send is not None:
            self.close_connection = True

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/leaks":
            return self.answer(200, json.dumps(leaks).encode())
        if path == "/uploads":
            return self.answer(200, json.dumps(uploads).encode())
        session = re.fullmatch(r"/session/(\d+)", path)
        if session:
            have = sessions[int(session.group(1))]
            return self.answer(204, headers={"Location": path, "Range": f"0-{len(have) - 1}"})
        if path.startswith("/elsewhere/"):
            if self.headers.get("Authorization"):
                leaks.append(self.headers["Authorization"])
            return self.answer(200, blob(path.split("/")[-1]))
        match = re.fullmatch(r"/v2/(\w+)/(manifests|blobs)/(.+)", path)
        if path == "/v2/":
            return self.answer(200, b"{}")
        if not match:
            return self.answer(404)
        kind, what, name = match.groups()
        count = requests[(kind, path)] = requests.get((kind, path), 0) + 1
        if kind == "take":
            return self.answer(404)
        if kind == "deny":
            return self.answer(403, b'{"errors":[{"code":"DENIED","message":"no\\u001b[2J"}]}')
        if kind == "flaky" and count % 2 == 1:
            return self.answer(503)
        if kind == "redirect" and "Authorization" not in self.headers:
            return self.answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if what == "manifests":
            return self.manifest(kind, name)
        return self.blob(kind, name.split(":")[1], count)

    do_HEAD = do_GET

    def do_POST(self):
        number = len(sessions)
        sessions[number] = bytearray()
        self.answer(202, headers={"Location": f"/session/{number}"})

    def do_PATCH(self):
        number = int(self.path.split("/")[-1])
        start = int(self.headers["Content-Range"].split("-")[0])
        length = int(self.headers["Content-Length"])
        uploads["ranges"].append(start)
        if start != len(sessions[number]):
            self.rfile.read(length)
            return self.answer(416)
        first = not uploads["patched"]
        sessions[number] += self.rfile.read(length // 3 if first else length)
        uploads["patched"] = sum(map(len, sessions.values()))
        if first:
            self.close_connection = True
            return None
        have = len(sessions[number])
        return self.answer(202, headers={"Location": self.path, "Range": f"0-{have - 1}"})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/session/"):
            number, query = self.path.split("/")[-1].split("?")
            whole = bytes(sessions[int(number)]) + body
            if "sha256:" + hashlib.sha256(whole).hexdigest() != query.split("digest=")[1]:
                uploads["wrong"] += 1
                return self.answer(400)
        return self.answer(201)

    def manifest(self, kind, name):
        body = blob(top if ":" not in name else name.split(":")[1])
        if body is None:
            return self.answer(404)
        if kind == "huge":
            body += b" " * (8 << 20)
        if kind == "lie":
            body = body.replace(b'"size"', b'"size" ')
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        return self.answer(200, body, headers)

    def blob(self, kind, digest, count):
        body = blob(digest)
        if body is None:
            return self.answer(404)
        if len(body) < 4096:  # the configuration: these kinds are about layers
            return self.answer(200, body)
        if kind == "digest":
            body = body[:-100] + bytes(b ^ 1 for b in body[-100:])
        if kind == "short":
            return self.answer(200, body[:-1000])
        if kind == "redirect":
            return self.answer(307, headers={
                "Location": f"http://127.0.0.1:{other.server_port}/elsewhere/{digest}"})
        status, headers = 200, {}
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        whole = len(body)
        if asked and kind != "norange":
            start = int(asked.group(1))
            status, headers = 206, {"Content-Range": f"bytes {start}-{whole - 1}/{whole}"}
            body = body[start:]
        if kind in ("cut", "norange") and count < 4:
            return self.answer(status, body, headers, send=len(body) // 2)
        if kind == "stall":
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000])
            self.wfile.flush()
            time.sleep(30)
            self.close_connection = True
            return None
        return self.answer(status, body, headers)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


main = Server(("127.0.0.1", 0), Handler)
other = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=other.serve_forever, daemon=True).start()
with open(port_file + ".new", "w") as f:
    f.write(str(main.server_port))
os.rename(port_file + ".new", port_file)
main.serve_forever()
