#!/usr/bin/env python3
"""Servers and clients for tests of published ports on [::1].

serve PORT: answers each TCP connection, once the client has sent all, with its bytes in capitals;
            UDP: the bytes in capitals.
echo PORT:  echoes what comes at once (TCP).
ask PORT SIZE: sends SIZE bytes to [::1], ends its half, reads the answer and compares.
crowd PORT COUNT: is answered by an echo beside COUNT idle connections and one that does not read.
hold PORT:  sends, without reading, until nothing more goes; says "full"; then does nothing.
udp PORT TEXT: a datagram to [::1], up to five times; prints the answer.
"""
import os
import socket
import sys
import threading
import time


def handle(s, echo):
    data = b""
    try:
        while part := s.recv(65536):
            if echo:
                s.sendall(part)
            else:
                data += part
        s.sendall(data.upper())
    except ConnectionError:
        pass  # the client went away
    s.close()


def serve(port, echo):
    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))

    def answer():
        while True:
            data, sender = datagrams.recvfrom(65536)
            datagrams.sendto(data.upper(), sender)
    threading.Thread(target=answer, daemon=True).start()
    print("ready", flush=True)
    while True:
        s, _ = listener.accept()
        threading.Thread(target=handle, args=(s, echo), daemon=True).start()


def ask(port, size):
    data = os.urandom(size // 2).hex().encode()
    s = socket.create_connection(("::1", port), timeout=20)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    got = b""
    while part := s.recv(65536):
        got += part
    assert got == data.upper(), f"{len(got)} of {len(data)} bytes"


def crowd(port, count):
    """Many who send nothing, and one who does beside them."""
    idle = [socket.create_connection(("::1", port), timeout=5) for _ in range(count)]
    # One who does not read what he gets.
    lazy = socket.create_connection(("::1", port), timeout=5)
    lazy.setblocking(False)
    end = time.time() + 2
    while time.time() < end:
        try:
            lazy.send(b"x" * 65536)
        except BlockingIOError:
            time.sleep(0.1)
    s = socket.create_connection(("::1", port), timeout=5)
    s.sendall(b"hello")
    assert s.recv(5) == b"hello"
    for other in idle:
        other.close()


def hold(port):
    s = socket.create_connection(("::1", port), timeout=1)
    try:
        while True:
            s.sendall(b"x" * 65536)
    except TimeoutError:
        print("full", flush=True)
    time.sleep(20)


def udp(port, text):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(1)
    for _ in range(5):
        try:
            s.sendto(text.encode(), ("::1", port))
            print(s.recv(65536).decode())
            return
        except TimeoutError:
            pass  # asked again, as clients do
    sys.exit("no answer")


what, port = sys.argv[1], int(sys.argv[2])
if what in ("serve", "echo"):
    serve(port, what == "echo")
elif what == "ask":
    ask(port, int(sys.argv[3]))
elif what == "crowd":
    crowd(port, int(sys.argv[3]))
elif what == "hold":
    hold(port)
else:
    udp(port, sys.argv[3])
