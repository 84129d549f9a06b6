#!/usr/bin/env python3
"""A token server for docker-registry's `auth: token` (distribution "token" specification).

Usage: token_server.py DIR PORT_FILE [plain]. DIR has key.pem and cert.pem: the key signs the tokens
(RS256, its certificate in x5c) and serves TLS unless "plain". Users: user/secret may do all,
anonymous may pull repositories below public/. user's identity token is "refresh-me".
DIR/requests gets a JSON line for each request; DIR/mode may say: expired (the next token is so old
that the registry refuses it), challenge (ask for a token for tokens), strict (refuse all when one
scope is not granted).
"""
import base64
import http.server
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.parse

directory, port_file = sys.argv[1:3]
plain = sys.argv[3:] == ["plain"]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def certificate():
    with open(f"{directory}/cert.pem") as f:
        return "".join(line.strip() for line in f if "-----" not in line)


def token(service, user, access, age):
    now = int(time.time()) - age
    header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate()]}
    claims = {"iss": "isola-test", "sub": user, "aud": service, "exp": now + 300, "nbf": now - 10,
              "iat": now, "jti": os.urandom(8).hex(), "access": access}
    text = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(claims).encode())
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", f"{directory}/key.pem"],
                               input=text, stdout=subprocess.PIPE, check=True).stdout
    return (text + b"." + encode(signature)).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, headers=None):
        body = json.dumps(body).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def who(self, form):
        """The user, "" for nobody, None for a wrong password."""
        if form.get("grant_type") == ["refresh_token"]:
            return "user" if form.get("refresh_token") == ["refresh-me"] else None
        said = self.headers.get("Authorization")
        if said is None:
            return ""
        right = "Basic " + base64.b64encode(b"user:secret").decode()
        return "user" if said == right else None

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.give(urllib.parse.parse_qs(self.rfile.read(length).decode()))

    def do_GET(self):
        self.give(urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query))

    def give(self, form):
        mode = ""
        if os.path.exists(f"{directory}/mode"):
            with open(f"{directory}/mode") as f:
                mode = f.read().strip()
        scopes = " ".join(form.get("scope", [])).split()
        user = self.who(form)
        with open(f"{directory}/requests", "a") as f:
            f.write(json.dumps({"method": self.command, "user": user, "scopes": scopes}) + "\n")
        if mode == "challenge":
            realm = f"http{'' if plain else 's'}://{self.headers['Host']}/token"
            return self.answer(401, {}, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
        if user is None:
            return self.answer(401, {"details": "wrong password"})
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if name.startswith("closed/"):
                actions = []
            elif user == "user":
                actions = actions.split(",")
            else:
                actions = ["pull"] if name.startswith("public/") else []
            if not actions and mode == "strict":
                return self.answer(403, {"details": "not for you"})
            access.append({"type": kind, "name": name, "actions": actions})
        age = 0
        if mode == "expired":
            os.unlink(f"{directory}/mode")
            age = 3600
        # POST is OAuth2 and has its own names of things.
        name = "access_token" if self.command == "POST" else "token"
        service = form.get("service", [""])[0]
        return self.answer(200, {name: token(service, user, access, age), "expires_in": 300})


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
if not plain:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(port_file + ".new", "w") as f:
    f.write(str(server.server_port))
os.rename(port_file + ".new", port_file)
server.serve_forever()
