#!/usr/bin/env python3
"""Random instructions of every line of the tables: the registers afterwards are those of QEMU's user mode,
with code for this CPU and with the interpreter. Usage: random_words.py ISOLA-EMU EMU-KNOWN [ROUNDS [SEED]]
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import a64  # noqa: E402

emu, known = sys.argv[1:3]
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 6
seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
WORDS = 24  # of a line in a program
TABLES = ("integer", "fp", "simd", "extension", "memory")
# What has a place of its own: branches, other threads' business, addresses.
MEMORY = ("ldr_unsigned", "ldr_unsigned_v", "ldr_unscaled", "ldr_unscaled_v", "ldp", "ldp_v", "ldar", "stlr",
          "ldadd", "swp", "cas", "ld_single", "ld_multiple", "ldxr")
# Rounding modes, the default NaN, small numbers as 0.
FZ = 1 << 24
FPCR = (0, 0, 1 << 22, 2 << 22, 3 << 22, 1 << 25, FZ)


def fit(line, word):
    """X30 is the base of the data and stays so; accesses stay near it."""
    for field in ("rd", "rt", "rt2", "rs"):
        if field in line["fields"]:
            at, width, _ = line["fields"][field]
            if word >> at & 31 >= 30:
                word = a64.with_field(line, word, field, word >> (at + 1) & 15)
    if line["table"] == "memory":
        word = a64.with_field(line, word, "rn", 30)
        word = a64.with_field(line, word, "mode", 0 if "unscaled" in line["name"] else 2)
        imm = {"ldr_unsigned": 31, "ldr_unsigned_v": 31}.get(line["name"])
        if imm is not None:
            at, width, _ = line["fields"]["imm"]
            word = a64.with_field(line, word, "imm", word >> at & imm)
        if line["name"] in ("ldp", "ldp_v"):
            word = a64.with_field(line, word, "rt2", (word + 1) & 15)  # two loads to one: unpredictable
            word = a64.with_field(line, word, "rt", (word >> 1 & 7) + 16)
    elif "rn" in line["fields"] and line["name"] in ("add_imm", "add_extended"):
        at = line["fields"]["rn"][0]
        if word >> at & 31 == 31:  # the stack pointers differ
            word = a64.with_field(line, word, "rn", 7)
    return word


def pair_rounds(words):
    """Behind each AESE and AESD an AESMC or AESIMC of the register: they are one round then."""
    paired = []
    for word in words:
        paired.append(word)
        if word >> 12 & 31 in (4, 5):
            rd = word & 31
            paired.append((word & ~0x3ff) + (2 << 12) | rd << 5 | rd)
    return paired


def run(command, path):
    done = subprocess.run([*command, path], capture_output=True, timeout=60, check=False)
    return done.stdout, done.stderr


def main():
    if shutil.which("qemu-aarch64") is None:
        print("1..0 # SKIP qemu-aarch64 is not installed")
        return
    source = random.Random(seed)
    lines = [line for line in a64.lines() if line["table"] in TABLES and
             (line["table"] != "memory" or line["name"] in MEMORY)]
    print(f"1..{len(lines)}")
    with tempfile.TemporaryDirectory(prefix="isola-emu-") as folder:
        path = os.path.join(folder, "program")
        for number, line in enumerate(lines, 1):
            problem, count = None, 0
            for _ in range(rounds):
                words = [fit(line, a64.random_word(line, source)) for _ in range(WORDS * 6)]
                words = [w for w in words if a64.obeys(line, w) and w & line["mask"] == line["value"]]
                if line["name"] == "crypto_aes":
                    words = pair_rounds(words)
                good = a64.known(known, words)
                body = [w for w in words if w in good][:WORDS]
                count += len(body)
                fpcr = source.choice(FPCR) if line["table"] in ("fp", "simd", "extension") else 0
                if line["name"] == "fjcvtzs" and fpcr == FZ:
                    fpcr = 0  # QEMU 7.2 says of a number that counts as 0 that the result is exact
                with open(path, "wb") as file:
                    file.write(a64.program(body, a64.random_frame(source), fpcr))
                os.chmod(path, 0o755)
                theirs, complaint = run(["qemu-aarch64"], path)
                for options in ([], ["--interpret"]):
                    ours, words_of = run([emu, *options], path)
                    problem = problem or a64.compare(ours, theirs)
                    if problem:
                        print(f"# {options} {problem}; {words_of.decode()[:200]} {complaint.decode()[:200]}")
                        print(f"# FPCR {fpcr:x}: " + " ".join(f"{w:08x}" for w in body))
                        break
                if problem:
                    break
            good = not problem and count > 0
            print(f"{'ok' if good else 'not ok'} {number} - {line['name']}: {count} instructions as QEMU has them")


main()
