#!/usr/bin/env python3
"""tools/decode refuses what is wrong, and what the translator makes of each line objdump knows, too.
Usage: decode.py EMU-KNOWN
"""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import a64  # noqa: E402

OBJDUMP = "aarch64-linux-gnu-objdump"
WORDS = 40
BAD = [
    ("a 0000 rd:28\nb 00xx rd:28\n", "'a' and 'b'", "two lines that match one word"),
    ("a 0000 rd:28 : rd != 3\nb 0000 rd:28 : rd = 3\n", None, "lines that constraints keep apart are no overlap"),
    ("a 0000 rd:28 : rd = 0x1234567\nb 0000 rd:28 : rd != 3\n", "both match", "an overlap of a single word"),
    ("a 0000 rd:28 > b\nb 00xx rd:28\n", None, "nor is a line that says it wins"),
    ("a 0000 rd:27\n", "31 bits", "a pattern that is too short"),
    ("a 0000 rd:29\n", "not 32", "one that is too long"),
    ("a 0000 rd:28 : rn = 1\n", "rn = 1", "a constraint on a field that is not there"),
    ("a 0000 rd:28\na 1111 rd:28\n", "'a' is also in", "a name twice"),
    ("a 0020 rd:28\n", "neither bits nor a field", "what is no bit"),
    ("a 0000 rd:14 rd:14\n", "'rd' twice", "a field twice"),
    ("a 0000 rd:28 > nobody\n", "'nobody' is no instruction", "winning over nobody"),
]
number = 0


def report(good, claim):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {claim}")


def refused(text, folder):
    path = pathlib.Path(folder, "t.decode")
    path.write_text(text, encoding="utf-8")
    return subprocess.run([a64.SOURCE / "tools/decode", "--list", path], capture_output=True, text=True, check=False)


def disassemble(words, folder):
    path = os.path.join(folder, "words")
    with open(path, "wb") as file:
        for word in words:
            file.write(word.to_bytes(4, "little"))
    text = subprocess.run([OBJDUMP, "-D", "-b", "binary", "-m", "aarch64", path], check=True, capture_output=True,
                          text=True).stdout
    return [line.split("\t", 2)[2] for line in text.splitlines() if line.count("\t") >= 2]


def main():
    lines = a64.lines()
    has_objdump = shutil.which(OBJDUMP) is not None
    print(f"1..{len(BAD) + (len(lines) if has_objdump else 0)}")
    source = random.Random(11)
    with tempfile.TemporaryDirectory(prefix="isola-emu-") as folder:
        for text, why, claim in BAD:
            done = refused(text, folder)
            if why is None:
                report(done.returncode == 0, claim)
            else:
                report(done.returncode != 0 and why in done.stderr and "t.decode:" in done.stderr, f"refused: {claim}")
        for line in lines if has_objdump else []:
            good = []
            for count in (WORDS * 4, WORDS * 800):  # of system registers few are known
                if good:
                    break
                words = [a64.random_word(line, source) for _ in range(count)]
                good = sorted(a64.known(sys.argv[1], words))[:WORDS]
            texts = disassemble(good, folder) if good else []
            odd = [f"{w:08x} {t}" for w, t in zip(good, texts) if "undefined" in t or t.startswith(".inst")]
            for text in odd[:5]:
                print("# " + text)
            report(bool(good) and not odd, f"{line['name']}: {len(good)} instructions that objdump knows")


main()
