#!/usr/bin/env python3
"""An image survives kill -9 at any moment, and a power failure at any write."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from tool import SECTOR, Model, Tests, Tool, check, content, pattern, qemu, wait_unlocked

TOOL, ROUNDS = sys.argv[1], int(sys.argv[2])
MIB = 1 << 20


class History:
    """What each sector may hold: its value at the last flush that was answered, or a later one."""

    def __init__(self, data):
        self.allowed = [{data[at:at + SECTOR]} for at in range(0, len(data), SECTOR)]
        self.now = [data[at:at + SECTOR] for at in range(0, len(data), SECTOR)]

    def set(self, first, values):
        for number, value in enumerate(values, first):
            self.allowed[number].add(value)
            self.now[number] = value

    def flushed(self):
        self.allowed = [{value} for value in self.now]

    def check(self, data):
        for number, allowed in enumerate(self.allowed):
            got = data[number * SECTOR:(number + 1) * SECTOR]
            assert got in allowed, (f"sector {number} holds {got[:8].hex()}, allowed are "
                                    f"{sorted(value[:8].hex() for value in allowed)}")


def lines(model, count, flush_every):
    """Commands, each with what it does to the history."""
    for number in range(count):
        offset, size = model.range(300)
        first = offset // SECTOR
        kind = model.random.choice(["write", "write", "write", "write", "unmap", "zero"])
        if number % flush_every == flush_every - 1:
            yield "flush", None, None
        elif kind == "write":
            model.seed += 1
            values = [pattern(model.seed, sector) for sector in range(first, first + size // SECTOR)]
            yield f"write {offset} {size} {model.seed}", first, values
        else:
            yield f"{kind} {offset} {size}", first, [bytes(SECTOR)] * (size // SECTOR)


def killed(directory, bits, options):
    """Commands stream into the program; it is killed in the middle, the image goes on."""
    size = 4 * MIB
    image = directory / "disk.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={1 << bits}{options}",
         image, str(size))
    data = bytes(size)
    for round_ in range(12 * ROUNDS):
        model = Model(data, round_ * 1000 + bits)
        model.seed = round_ * 1000
        history = History(data)
        tool = Tool(TOOL)
        tool.must(f"open {image} qcow2 rw {directory}")
        script = list(lines(model, 120, 17))
        stop = model.random.randrange(len(script))
        for line, first, values in script[:stop]:
            if values is not None:
                history.set(first, values)
            tool.must(line)
            if values is None:
                history.flushed()
        # The rest is under way when it dies: nobody awaits the answers.
        for line, first, values in script[stop:stop + 20]:
            if values is not None:
                history.set(first, values)
            tool.send(line)
        tool.process.stdin.flush()
        time.sleep(model.random.random() * 0.004)
        tool.kill()
        wait_unlocked(image)
        check(image, leaks=True)
        data = content(image)
        history.check(data)
        if round_ % 4 == 3:
            qemu("qemu-img", "snapshot", "-c", f"s{round_}", image)
    done = subprocess.run(["qemu-img", "check", "-r", "leaks", image], capture_output=True)
    assert done.returncode == 0
    check(image)


CALL = re.compile(r'^\d+ (pwrite64|pwritev|ftruncate|fallocate|fdatasync|fsync)\((\d+)(?:, )?(.*)\) '
                  r'+= (\d+)$', re.S)
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def recorded(directory, image, script):
    """The system calls on the image as (kind, ...), in order, from strace."""
    trace = directory / "trace"
    command = ["strace", "-f", "-xx", "-s", str(4 * MIB), "-o", trace, "-e",
               "trace=pwrite64,pwritev,ftruncate,fallocate,fdatasync,fsync,io_uring_setup",
               "-e", "inject=io_uring_setup:error=ENOSYS", TOOL]
    text = f"open {image} qcow2 rw {directory}\n" + "\n".join(script) + "\nclose\n"
    # The sanitizer's search for leaks and strace cannot both trace the program.
    environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
    done = subprocess.run(command, input=text, text=True, capture_output=True, env=environment)
    assert done.returncode == 0 and "error" not in done.stdout, done.stdout + done.stderr
    pending = {}
    calls = []
    for line in trace.read_text().splitlines():
        thread, rest = line.split(" ", 1)
        rest = rest.strip()
        # Two threads: a call may be printed in two parts. It counts where it ends.
        if rest.endswith("<unfinished ...>"):
            pending[thread] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)$", rest)
        if resumed:
            rest = pending.pop(thread) + resumed.group(1)
        match = CALL.match(f"{thread} {rest}")
        if not match:
            continue
        name, _, arguments, result = match.groups()
        if name == "pwrite64" or name == "pwritev":
            data = b"".join(bytes.fromhex(part.replace("\\x", "")) for part in TEXT.findall(arguments))
            offset = int(arguments.rsplit(", ", 1)[1])
            assert len(data) == int(result)
            calls.append(("write", offset, data))
        elif name == "ftruncate":
            calls.append(("size", int(arguments)))
        elif name == "fallocate":
            mode, offset, size = arguments.rsplit(", ", 2)
            calls.append(("zero", int(offset), bytes(int(size)), "KEEP_SIZE" in mode))
        else:
            calls.append(("sync",))
    trace.unlink()
    return calls


def apply(file, call):
    if call[0] == "size":
        file.truncate(call[1])
        return
    data = call[2]
    if call[0] == "zero" and call[3]:
        file.seek(0, 2)
        data = data[:max(0, file.tell() - call[1])]
    file.seek(call[1])
    file.write(data)


def power(directory, bits, options):
    """
    Of the writes since the last sync any may be missing, and in any order; those before are there.
    The lengths of files are journalled, so they are never behind.
    """
    size = 2 * MIB
    image = directory / "disk.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={1 << bits}{options}",
         image, str(size))
    tool = Tool(TOOL)
    tool.must(f"open {image} qcow2 rw {directory}")
    model = Model(bytes(size), bits)
    for _ in range(40):
        model.write(tool, 200)
    tool.must("close")
    tool.end()
    qemu("qemu-img", "snapshot", "-c", "one", image)
    shutil.copyfile(image, directory / "before")
    calls = recorded(directory, image, [line for line, _, _ in lines(model, 60, 9)])
    assert sum(call[0] == "sync" for call in calls) > 10
    shutil.copyfile(directory / "before", directory / "certain")
    waiting = []
    with open(directory / "certain", "r+b") as certain:
        for call in calls:
            if call[0] != "sync":
                waiting.append(call)
                continue
            certain.flush()
            for _ in range(ROUNDS):
                crashed = directory / "crashed.qcow2"
                shutil.copyfile(directory / "certain", crashed)
                chosen = [c for c in waiting if c[0] == "size" or model.random.random() < 0.5]
                with open(crashed, "r+b") as file:
                    for late in chosen:
                        apply(file, late)
                check(crashed, leaks=True)
            for late in waiting:
                apply(certain, late)
            waiting = []
    assert pathlib.Path(directory / "certain").read_bytes()[:72] == image.read_bytes()[:72]


def main():
    tests = Tests()
    for bits, options in [(9, ""), (12, ""), (16, ""), (12, ",compat=0.10")]:
        tests.run(f"kill -9, clusters of {1 << bits} bytes{options}", killed, bits, options)
        tests.run(f"power failure, clusters of {1 << bits} bytes{options}", power, bits, options)
    tests.end()


main()
