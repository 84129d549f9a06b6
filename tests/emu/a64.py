"""AArch64 programs made of words: ELF files, registers to begin with and to look at."""
import json
import pathlib
import random
import struct
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
TEXT, DATA = 0x400000, 0x500000
FRAME = 32 * 16 + 30 * 8 + 8 + 8  # V0 to V31, X0 to X29, NZCV, SP
OUT = 0x1000  # of the data: the frame at the end; at 0 the one to begin with


def lines():
    tables = sorted((SOURCE / "src/emu/guest/arm64").glob("*.decode"))
    done = subprocess.run([SOURCE / "tools/decode", "--list", *tables], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def obeys(line, word):
    for field, mask, kind, want in line["constraints"]:
        at, width, signed = line["fields"][field]
        value = word >> at & ((1 << width) - 1)
        if signed and value >> (width - 1):
            value -= 1 << width
        value = value if mask == -1 else value & mask
        if not {"=": value == want, "!=": value != want, "<": value < want, ">=": value >= want}[kind]:
            return False
    return True


def random_word(line, source):
    for _ in range(200):
        word = line["value"] | source.getrandbits(32) & ~line["mask"] & 0xffffffff
        if obeys(line, word):
            return word
    return None


def with_field(line, word, name, value):
    if name not in line["fields"]:
        return word
    at, width, _ = line["fields"][name]
    return word & ~(((1 << width) - 1) << at) | (value & ((1 << width) - 1)) << at


def known(program, words):
    """Those that the translator makes."""
    text = "".join(f"{w:08x}\n" for w in words)
    done = subprocess.run([program], input=text, check=True, capture_output=True, text=True)
    return {int(line, 16) for line in done.stdout.split()}


def elf(code, data):
    """Two segments: code at TEXT, data at DATA, writable."""
    header_size = 64 + 2 * 56
    text_offset = 0x1000
    text = struct.pack(f"<{len(code)}I", *code)
    data_offset = (text_offset + len(text) + 0xfff) & ~0xfff
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 183, 1, TEXT, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = lambda flags, offset, address, size, memory: struct.pack(
        "<IIQQQQQQ", 1, flags, offset, address, address, size, memory, 0x1000)
    header += load(5, text_offset, TEXT, len(text), len(text))
    header += load(6, data_offset, DATA, len(data), 0x10000)
    out = header + bytes(text_offset - header_size) + text
    return out + bytes(data_offset - len(out)) + data


def mov(register, value):
    words = [0xd2800000 | (value & 0xffff) << 5 | register]
    for i in range(1, 4):
        part = value >> (16 * i) & 0xffff
        if part:
            words.append(0xf2800000 | i << 21 | part << 5 | register)
    return words


def frame_code(load, base):
    """Loads or stores all of a frame that X30 points to."""
    words = []
    ldp_q, ldp_x = (0xad400000, 0xa9400000) if load else (0xad000000, 0xa9000000)
    for i in range(0, 32, 2):
        words.append(ldp_q | (i * 16 // 16 & 0x7f) << 15 | (i + 1) << 10 | base << 5 | i)
    words += mov(base, DATA + (0 if load else OUT) + 512)
    pairs = [ldp_x | (i & 0x7f) << 15 | (i + 1) << 10 | base << 5 | i for i in range(0, 30, 2)]
    if load:  # the flags first: they need a register
        words += [0xf9400000 | 30 << 10 | base << 5 | 0, 0xd51b4200, *pairs]
    else:
        words += [*pairs, 0xd53b4200, 0xf9000000 | 30 << 10 | base << 5 | 0]
    return words


def program(body, frame, fpcr=0):
    """Runs the body with the registers of the frame and writes those at its end to standard output."""
    code = [*mov(0, fpcr), 0xd51b4400, *mov(30, DATA), *frame_code(True, 30), *mov(30, DATA + 0x800), *body, *mov(30, DATA + OUT),
            *frame_code(False, 30),
            *mov(0, 1), *mov(1, DATA + OUT), *mov(2, FRAME), *mov(8, 64), 0xd4000001,
            *mov(0, 0), *mov(8, 94), 0xd4000001]
    return elf(code, frame + bytes(0x2000 - len(frame)))


INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
               0x8000000000000000, 0xffffffffffffffff]
FLOATS = [0x3ff0000000000000, 0xbff8000000000000, 0x3f8000003f800000, 0xc0490fdb40490fdb, 0x7ff0000000000000,
          0x7f800000ff800000, 0x7ff8000000000123, 0x7fc000037f800001, 0x0000000000000001, 0x41dfffffffc00000,
          0x4f0000005f000000, 0xc3e0000000000000]


def random_frame(source):
    def value(more):
        kind = source.random()
        if kind < 0.35:
            return source.choice(INTERESTING + more)
        return source.getrandbits(64) if kind < 0.8 else source.getrandbits(8)
    vectors = [value(FLOATS) for _ in range(64)]
    return struct.pack("<96Q", *vectors, *[value([]) for _ in range(30)], source.getrandbits(4) << 28, 0)


def names():
    return [f"V{i // 2}.D[{i % 2}]" for i in range(64)] + [f"X{i}" for i in range(30)] + ["NZCV", "-"]


def compare(ours, theirs):
    """What differs, or None."""
    a, b = (struct.unpack("<96Q", x[:FRAME]) if len(x) >= FRAME else None for x in (ours, theirs))
    if a is None or b is None:
        return "one did not come to its end"
    return next((f"{n}: {x:016x}, not {y:016x}" for n, x, y in zip(names(), a, b) if x != y and n != "-"), None)


__all__ = [name for name in dir() if not name.startswith("_")] + ["random"]
