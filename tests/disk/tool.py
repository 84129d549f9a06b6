"""Drives disk_tool, and keeps the plain model that images are compared with."""
import fcntl
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import time

SECTOR = 512


def pattern(seed, sector):
    return struct.pack("<Q", seed << 32 | sector) * 64


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")

    def answer(self):
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().rstrip("\n")

    def ask(self, line):
        self.send(line)
        return self.answer()

    def must(self, line):
        got = self.ask(line)
        assert got.startswith("ok"), f"{line}: {got}"
        return got

    def read(self, offset, size):
        self.must(f"read {offset} {size}")
        data = self.process.stdout.read(size)
        assert len(data) == size
        return data

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait() == 0, f"disk_tool ended with {self.process.returncode}"
        self.process.stdout.close()


class Skip(Exception):
    """The host lacks something."""


class Tests:
    """TAP: each test in a directory of its own that is removed."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def run(self, name, function, *args, on_disk=False):
        """In memory, where a sync costs nothing, unless the file system is part of the test."""
        self.count += 1
        place = None if on_disk or not os.path.isdir("/dev/shm") else "/dev/shm"
        with tempfile.TemporaryDirectory(prefix="isola-disk-", dir=place) as directory:
            try:
                function(pathlib.Path(directory), *args)
                print(f"ok {self.count} - {name}", flush=True)
            except Skip as reason:
                print(f"ok {self.count} - {name} # SKIP {reason}", flush=True)
            except (AssertionError, subprocess.CalledProcessError) as error:
                self.failed += 1
                print(f"not ok {self.count} - {name}")
                for line in str(error).splitlines():
                    print(f"# {line}", flush=True)

    def end(self):
        print(f"1..{self.count}")
        raise SystemExit(self.failed > 0)


def qemu(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, args))}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_unlocked(image):
    """The kernel lets go of a file a moment after a killed process whose requests it still did."""
    with open(image, "r+b") as file:
        for _ in range(500):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(0.01)
    raise AssertionError(f"{image} stays locked after its user was killed")


def check(image, leaks=False):
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", image], capture_output=True,
                          text=True)
    good = (0, 3) if leaks else (0,)
    assert done.returncode in good, f"qemu-img check {image}: {done.stdout}{done.stderr}"


def content(image, format="qcow2"):
    """What QEMU reads from the image."""
    raw = f"{image}.content"
    qemu("qemu-img", "convert", "-f", format, "-O", "raw", image, raw)
    data = pathlib.Path(raw).read_bytes()
    os.unlink(raw)
    return data


def first_difference(a, b):
    if a == b:
        return None
    if len(a) != len(b):
        return f"lengths {len(a)} and {len(b)}"
    for at in range(0, len(a), SECTOR):
        if a[at:at + SECTOR] != b[at:at + SECTOR]:
            return f"sector {at // SECTOR}: {a[at:at + 8].hex()} instead of {b[at:at + 8].hex()}"
    return None


def same(a, b, what):
    difference = first_difference(a, b)
    assert difference is None, f"{what}: {difference}"


class Model:
    """The disk as bytes. Overlapping requests are never under way together."""

    def __init__(self, data, seed):
        self.data = bytearray(data)
        self.random = random.Random(seed)
        self.seed = 0

    def range(self, most):
        sectors = len(self.data) // SECTOR
        length = min(self.random.choice([1, 8, 8, self.random.randrange(1, most + 1)]), sectors)
        return self.random.randrange(sectors - length + 1) * SECTOR, length * SECTOR

    def write(self, tool, most, wait=True):
        offset, size = self.range(most)
        self.seed += 1
        for at in range(offset, offset + size, SECTOR):
            self.data[at:at + SECTOR] = pattern(self.seed, at // SECTOR)
        line = f"write {offset} {size} {self.seed}"
        if wait:
            tool.must(line)
        else:
            tool.send("+" + line)

    def step(self, tool, most):
        kind = self.random.choices(
            ["write", "read", "zero", "unmap", "discard", "flush", "batch"],
            [30, 20, 6, 6, 6, 4, 10])[0]
        if kind == "write":
            self.write(tool, most)
        elif kind == "batch":
            self.batch(tool, most)
        elif kind == "flush":
            tool.must("flush")
        else:
            offset, size = self.range(most)
            if kind == "read":
                same(tool.read(offset, size), self.data[offset:offset + size], f"read {offset} {size}")
                return
            tool.must(f"{kind} {offset} {size}")
            # Discarded content is undefined: what it is now must stay.
            self.data[offset:offset + size] = (
                tool.read(offset, size) if kind == "discard" else bytes(size))

    def batch(self, tool, most):
        """Many at once, in parts of the disk of their own."""
        count = 16
        part = len(self.data) // SECTOR // count
        if part == 0:
            return
        for index in range(count):
            length = self.random.randrange(1, min(part, most) + 1)
            start = index * part + self.random.randrange(part - length + 1)
            offset, size = start * SECTOR, length * SECTOR
            kind = self.random.choice(["write", "write", "write", "read", "unmap"])
            if kind == "write":
                self.seed += 1
                for at in range(offset, offset + size, SECTOR):
                    self.data[at:at + SECTOR] = pattern(self.seed, at // SECTOR)
            elif kind == "unmap":
                self.data[offset:offset + size] = bytes(size)
            tool.send(f"+{kind} {offset} {size} {self.seed}")
        tool.must("wait")
