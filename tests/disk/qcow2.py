#!/usr/bin/env python3
"""Images by us and by QEMU, each read and checked by the other."""
import pathlib
import subprocess
import sys

from tool import SECTOR, Model, Skip, Tests, Tool, check, content, pattern, qemu, same

TOOL, ROUNDS = sys.argv[1], int(sys.argv[2])
MIB = 1 << 20


def steps(tool, model, count, most):
    for _ in range(count):
        model.step(tool, most)
    size = len(model.data)
    for at in range(0, size, MIB):
        part = min(MIB, size - at)
        same(tool.read(at, part), model.data[at:at + part], f"reading back at {at}")


def work(directory, image, data, seed, count=None, most=400, format="qcow2"):
    """Opens, does random things, closes; QEMU must see the same."""
    tool = Tool(TOOL)
    tool.must(f"open {image} {format} rw {directory}")
    model = Model(data, seed)
    steps(tool, model, count or 150 * ROUNDS, most)
    tool.must("close")
    tool.end()
    if format == "qcow2":
        check(image)
    same(content(image, format), model.data, "QEMU's view")
    return bytes(model.data)


def of_qemu(directory, options, size, seed):
    image = directory / "disk.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, str(size))
    data = work(directory, image, bytes(size), seed)
    # Opened again: what was closed is all there.
    work(directory, image, data, seed + 1)


def of_ours(directory, bits, size):
    image = directory / "disk.qcow2"
    tool = Tool(TOOL)
    tool.must(f"create {directory} disk.qcow2 qcow2 {size} {bits}")
    assert tool.ask(f"create {directory} disk.qcow2 qcow2 {size} {bits}").startswith("error 17 ")
    tool.end()
    check(image)
    assert content(image) == bytes(size)
    data = work(directory, image, bytes(size), bits)
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", "-c", "write -z 64k 64k", image)
    check(image)
    data = b"\7" * 65536 + bytes(65536) + data[131072:]
    work(directory, image, data, bits + 1)


def random_base(directory, name, size, seed):
    """A raw file with holes."""
    data = bytearray(size)
    for at in range(0, size, 3 * 65536):
        for sector in range(at // SECTOR, min(at + 65536, size) // SECTOR):
            data[sector * SECTOR:(sector + 1) * SECTOR] = pattern(seed, sector)
    (directory / name).write_bytes(data)
    return bytes(data)


def compressed(directory, kind, bits):
    size = 4 * MIB
    base = random_base(directory, "base.raw", size, 5)
    image = directory / "disk.qcow2"
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
         f"compression_type={kind},cluster_size={1 << bits}", directory / "base.raw", image)
    tool = Tool(TOOL)
    tool.must(f"open {image} qcow2 ro -")
    same(tool.read(0, size), base, "compressed image")
    assert tool.ask("write 0 512 1").startswith("error 30 ")
    tool.must("close")
    tool.end()
    work(directory, image, base, 9)


def backing(directory, base_format, base_size, size, options):
    raw = random_base(directory, "base.raw", base_size, 6)
    name = "base.raw"
    if base_format == "qcow2":
        qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", directory / "base.raw",
             directory / "base.qcow2")
        name = "base.qcow2"
    image = directory / "disk.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", name, "-F", base_format,
         image, str(size))
    data = (raw + bytes(max(0, size - base_size)))[:size]
    data = work(directory, image, data, 11)
    before = (directory / name).read_bytes()
    work(directory, image, data, 12)
    assert (directory / name).read_bytes() == before, "the backing file was written"


def chain(directory):
    """Five overlays of ours in two directories, each with something of its own."""
    size = 2 * MIB + 512
    data = random_base(directory, "base.raw", size, 3)
    (directory / "sub").mkdir()
    tool = Tool(TOOL)
    below, form = "base.raw", "raw"
    for name in ["sub/a.qcow2", "sub/b.qcow2", "c.qcow2"]:
        relative = below if "/" not in name or form == "raw" else pathlib.Path(below).name
        relative = "../base.raw" if name == "sub/a.qcow2" else relative
        # Sizes are given: the name is relative to the image, not to the directory of create.
        tool.must(f"create {directory} {name} qcow2 {size} 0 {relative} {form}")
        below, form = name, "qcow2"
    for number, name in enumerate(["sub/a.qcow2", "sub/b.qcow2"]):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {number + 1} {number * 100}k 90k",
                        directory / name], check=True, capture_output=True)
        at = number * 102400
        data = data[:at] + bytes([number + 1]) * 92160 + data[at + 92160:]
    tool.end()
    work(directory, directory / "c.qcow2", data, 4)


def snapshots(directory):
    size = 4 * MIB
    image = directory / "disk.qcow2"
    for count, bits in enumerate([9, 16]):
        qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={1 << bits}", image,
             str(size))
        kept = {}
        data = bytes(size)
        for name in ["one", "two", "three"]:
            data = work(directory, image, data, count, 60)
            qemu("qemu-img", "snapshot", "-c", name, image)
            kept[name] = data
        data = work(directory, image, data, count + 7, 100)
        for name, old in kept.items():
            out = directory / "old.raw"
            qemu("qemu-img", "convert", "-f", "qcow2", "-l", name, "-O", "raw", image, out)
            same(out.read_bytes(), old, f"snapshot {name}")
        qemu("qemu-img", "snapshot", "-d", "two", image)
        check(image)
        work(directory, image, data, count + 9, 60)


def dirty(directory):
    """Lazy counts and a QEMU that was killed: counted anew when the image is opened for writing."""
    size = 8 * MIB
    image = directory / "disk.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", image, str(size))
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 3 0 1M", "-c", "write -P 4 5M 1M",
                           "-c", "flush", "-c", "abort", image], capture_output=True, text=True)
    assert done.returncode != 0
    assert image.read_bytes()[79] & 1, "the image is not dirty: nothing is tested"
    data = b"\3" * MIB + bytes(4 * MIB) + b"\4" * MIB + bytes(2 * MIB)
    tool = Tool(TOOL)
    tool.must(f"open {image} qcow2 ro -")
    same(tool.read(0, size), data, "dirty image, read only")
    tool.must("close")
    tool.end()
    assert image.read_bytes()[79] & 1, "a reader changed the image"
    work(directory, image, data, 2)


def space_comes_back(directory):
    image = directory / "disk.qcow2"
    tool = Tool(TOOL)
    tool.must(f"create {directory} disk.qcow2 qcow2 {64 * MIB} 0")
    tool.must(f"open {image} qcow2 rw -")
    for round_ in range(8):
        tool.must(f"write {round_ * 8 * MIB} {8 * MIB} 1")
        tool.must("flush")
        tool.must(f"discard {round_ * 8 * MIB} {8 * MIB}")
        tool.must("flush")
    used = image.stat().st_blocks * 512
    size = image.stat().st_size
    tool.must("close")
    tool.end()
    check(image)
    assert used < 2 * MIB, f"{used} bytes stay after everything was discarded"
    assert size < 20 * MIB, f"freed clusters were not used again: {size} bytes"


def raw(directory, direct):
    size = 4 * MIB
    base = random_base(directory, "disk.raw", size, 8)
    tool = Tool(TOOL)
    tool.must(f"open {directory / 'disk.raw'} raw rw - {direct}")
    model = Model(base, 3)
    steps(tool, model, 150 * ROUNDS, 400)
    tool.must("flush")
    tool.must("close")
    tool.end()
    same((directory / "disk.raw").read_bytes(), model.data, "the file")


def block_device(directory):
    size = 4 * MIB
    base = random_base(directory, "disk.raw", size, 8)
    done = subprocess.run(["losetup", "-f", "--show", directory / "disk.raw"], capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise Skip("no loop device: " + done.stderr.strip())
    device = done.stdout.strip()
    try:
        tool = Tool(TOOL)
        assert tool.must(f"open {device} raw rw -") == f"ok {size}"
        model = Model(base, 3)
        steps(tool, model, 100 * ROUNDS, 400)
        tool.must("flush")
        tool.must("close")
        qemu("qemu-img", "create", "-q", "-f", "qcow2", device, str(2 * MIB))
        tool.must(f"open {device} qcow2 rw -")
        model = Model(bytes(2 * MIB), 4)
        steps(tool, model, 60 * ROUNDS, 100)
        tool.must("close")
        tool.end()
        check(device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def locks(directory):
    image = directory / "disk.qcow2"
    one, two = Tool(TOOL), Tool(TOOL)
    one.must(f"create {directory} disk.qcow2 qcow2 {MIB} 0")
    one.must(f"open {image} qcow2 rw -")
    for mode in ["rw", "ro"]:
        assert "another machine or program" in two.ask(f"open {image} qcow2 {mode} -")
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read 0 512", image],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "lock" in done.stderr, done.stderr
    one.must("close")
    one.must(f"open {image} qcow2 ro -")
    two.must(f"open {image} qcow2 ro -")
    qemu("qemu-io", "-r", "-f", "qcow2", "-c", "read 0 512", image)
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", image],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "lock" in done.stderr, done.stderr
    two.must("close")
    assert "another machine or program" in two.ask(f"open {image} qcow2 rw -")
    one.must("close")
    holder = subprocess.Popen(["qemu-io", "-f", "qcow2", image], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    holder.stdin.write(b"write 0 512\n")
    holder.stdin.flush()
    holder.stdout.readline()
    for mode in ["rw", "ro"]:
        assert "another machine or program" in two.ask(f"open {image} qcow2 {mode} -")
    holder.communicate(b"quit\n")
    two.must(f"open {image} qcow2 rw -")
    one.end()
    two.end()


def main():
    tests = Tests()
    for bits in [9, 10, 12, 16, 21]:
        tests.run(f"an image of QEMU's with clusters of {1 << bits} bytes", of_qemu,
                  f"cluster_size={1 << bits}", 6 * MIB + 512, bits)
    for width in [1, 2, 4, 8, 32, 64]:
        tests.run(f"counts of {width} bits", of_qemu,
                  f"refcount_bits={width},cluster_size=4096", 4 * MIB, width)
    tests.run("counts of 64 bits in clusters of 512 bytes", of_qemu,
              "refcount_bits=64,cluster_size=512", 8 * MIB, 1)
    tests.run("version 2", of_qemu, "compat=0.10", 5 * MIB, 2)
    tests.run("lazy counts", of_qemu, "lazy_refcounts=on", 5 * MIB, 2)
    tests.run("preallocated tables", of_qemu, "preallocation=metadata", 5 * MIB, 2)
    for bits in [9, 12, 16, 21]:
        tests.run(f"an image of ours with clusters of {1 << bits} bytes", of_ours, bits, 4 * MIB)
    for kind in ["zlib", "zstd"]:
        for bits in [9, 16, 20]:
            tests.run(f"compressed by {kind}, clusters of {1 << bits} bytes", compressed, kind, bits)
    for form in ["raw", "qcow2"]:
        for size in [MIB + 512, 6 * MIB]:
            tests.run(f"on a {form} image of {size} bytes", backing, form, size, 4 * MIB,
                      "cluster_size=4096")
            tests.run(f"version 2 on a {form} image of {size} bytes", backing, form, size, 4 * MIB,
                      "compat=0.10")
    tests.run("a chain of overlays", chain)
    tests.run("snapshots keep their content", snapshots)
    tests.run("counts left behind are made anew", dirty)
    tests.run("discarded space comes back", space_comes_back)
    tests.run("the same on a disk", space_comes_back, on_disk=True)
    tests.run("an image of ours on a disk", of_ours, 16, 4 * MIB, on_disk=True)
    tests.run("a block device", block_device)
    tests.run("a raw file", raw, "")
    tests.run("a raw file on a disk", raw, "", on_disk=True)
    tests.run("a raw file by direct I/O", raw, "direct", on_disk=True)
    tests.run("one writer or many readers, QEMU's programs among them", locks)
    tests.end()


main()
