"""A tiny kernel and a client, for tests of isola-vmm's control side: on /dev/kvm, without Linux."""
import http.client
import json
import os
import pathlib
import select
import socket
import struct
import subprocess
import time

# 32-bit code at ENTRY: says 'A' on the serial port, then echoes what comes and leaves by the debug
# exit with 7, or powers off, when a 'q' comes. The loop that waits for input starts at WAIT.
CODE = bytes.fromhex(
    "66baf803 b041 ee"           # mov $0x3f8,%dx; mov $'A',%al; out %al,%dx
    "66bafd03 ec a801 74f7"      # 1: mov $0x3fd,%dx; in %dx,%al; test $1,%al; jz 1b
    "66baf803 ec 88c3 ee"        # mov $0x3f8,%dx; in %dx,%al; mov %al,%bl; out %al,%dx
    "80fb71 75ea"                # cmp $'q',%bl; jne 1b
    "66ba0105 b007 ee"           # mov $0x501,%dx; mov $7,%al; out %al,%dx
    "66ba0006 b034 ee f4 ebfd")  # where that is nothing: sleep type 5 to port 0x600; 2: hlt; jmp 2b
ENTRY = 0x100000
WAIT = ENTRY + 7


def write_kernel(path):
    """An ELF file with a PVH note (Xen's PHYS32_ENTRY)."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", ENTRY)
    at = 64 + 2 * 56
    code_at = 0x1000
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, code_at, ENTRY, ENTRY, len(CODE), len(CODE), 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(note), len(note), 4)
    body = head + load + notes + note
    pathlib.Path(path).write_bytes(body.ljust(code_at, b"\0") + CODE)


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.unix = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.unix)


def listens(path):
    """The file is there a moment before anybody listens on it."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False


class Machine:
    """One isola-vmm; its serial port is input and output of this object."""

    def __init__(self, program, folder, *args):
        self.socket = pathlib.Path(folder) / f"api-{time.monotonic_ns()}.sock"
        self.process = subprocess.Popen(
            [program, "--api-sock", str(self.socket), *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        end = time.monotonic() + 20
        while not listens(self.socket):
            assert self.process.poll() is None, self.process.stderr.read().decode()
            assert time.monotonic() < end, "no socket"
            time.sleep(0.005)
        self.connection = Connection(self.socket)

    def call(self, method, path, body=None):
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text)
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None

    def must(self, method, path, body=None, status=204):
        got, answer = self.call(method, path, body)
        assert got == status, f"{method} {path}: {got} {answer}"
        return answer

    def refused(self, method, path, body, why):
        got, answer = self.call(method, path, body)
        assert got == 400 and why in answer["fault_message"], f"{method} {path}: {got} {answer}"

    def describe(self, kernel):
        self.must("PUT", "/boot-source", {"kernel_image_path": str(kernel)})
        self.must("PUT", "/machine-config",
                  {"vcpu_count": 1, "mem_size_mib": 16, "debug_exit": True})

    def send(self, text):
        self.process.stdin.write(text.encode())

    def read(self, count, seconds=20):
        """What came within that time: count bytes at most."""
        out = b""
        end = time.monotonic() + seconds
        while len(out) < count and time.monotonic() < end:
            if select.select([self.process.stdout], [], [], 0.05)[0]:
                data = os.read(self.process.stdout.fileno(), count - len(out))
                if not data:
                    break
                out += data
        return out.decode()

    def wait(self):
        return self.process.wait(20)

    def close(self):
        self.process.kill()
        self.process.communicate()


def run_tests(tests):
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} - {test.__name__}", flush=True)
        except Exception as error:  # each test reports, the others run on
            failed += 1
            print(f"not ok {number} - {test.__name__}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0
