#!/usr/bin/env python3
"""ELF headers with random bytes changed: the translator refuses them or runs what they say, and never crashes itself.
Usage: hostile_elf.py ISOLA-EMU [COUNT]
"""
import os
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import a64  # noqa: E402

emu = sys.argv[1]
count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
SAID = b"the program ended by signal"


def outcome(path):
    """None, or what went wrong."""
    try:
        done = subprocess.run([emu, path], capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "did not end"
    if b"AddressSanitizer" in done.stderr or b"runtime error" in done.stderr:
        return done.stderr[:400].decode(errors="replace")
    if done.returncode < 0 and SAID not in done.stderr:
        return f"ended by signal {-done.returncode} without a word"
    if done.returncode == 126 and not done.stderr.startswith(b"isola-emu-aarch64: "):
        return "was refused without a word"
    return None


def main():
    source = random.Random(3)
    good = a64.program([0xd503201f], a64.random_frame(source))
    problems = []
    with tempfile.TemporaryDirectory(prefix="isola-emu-") as folder:
        path = os.path.join(folder, "program")
        for number in range(count):
            data = bytearray(good)
            for _ in range(source.randint(1, 4)):
                at = source.randrange(0, 64 + 2 * 56)
                data[at] = source.choice([0, 1, 0x7f, 0x80, 0xff, source.getrandbits(8)])
            if number % 10 == 0:
                del data[source.randrange(0, 300):]
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o755)
            problem = outcome(path)
            if problem:
                problems.append(f"{data[:176].hex()}: {problem}")
    print("1..1")
    for problem in problems[:5]:
        print("# " + problem.replace("\n", "\n# "))
    print(f"{'not ok' if problems else 'ok'} 1 - {count} damaged headers are refused, or run to an end that is said")


main()
