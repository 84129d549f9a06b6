#!/usr/bin/env python3
"""Debian's gdb, in batch mode, at a tiny guest on /dev/kvm.

Usage: gdb.py ISOLA_VMM
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import tiny

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp(prefix="isola-gdb-", dir="/tmp"))
kernel = folder / "kernel"
machines = []


def machine(cpus=1):
    where = folder / f"gdb-{len(machines)}"
    made = tiny.Machine(program, folder, "--gdb", f"unix:{where}")
    machines.append(made)
    made.where = where
    made.must("PUT", "/boot-source", {"kernel_image_path": str(kernel)})
    made.must("PUT", "/machine-config",
              {"vcpu_count": cpus, "mem_size_mib": 16, "debug_exit": True})
    made.must("PUT", "/actions", {"action_type": "InstanceStart"})
    return made


def gdb(made, *commands):
    words = ["gdb", "-nx", "-q", "-batch", "-ex", "set pagination off", "-ex",
             "set confirm off", "-ex", f"target remote {made.where}"]
    for command in commands:
        words += ["-ex", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def has(text, *patterns):
    for pattern in patterns:
        assert re.search(pattern, text), f"no '{pattern}' in: {text}"


def the_guest_waits_at_its_entry_and_is_let_go_by_detaching():
    m = machine()
    assert m.read(1, 0.3) == ""
    has(gdb(m, "p/x $pc", "p/x $cs", "info threads", "detach"), r"= 0x100000\b", r"\* 1 +Thread")
    assert m.read(1) == "A"
    m.send("q")
    assert m.wait() == 7


def steps_go_one_instruction_at_a_time():
    m = machine()
    text = gdb(m, "stepi", "p/x $pc", "p/x $dx", "stepi", "p/x $pc", "p/x $al", "detach")
    has(text, r"\$1 = 0x100004\b", r"\$2 = 0x3f8\b", r"\$3 = 0x100006\b", r"\$4 = 0x41\b")


def registers_and_memory_are_written():
    m = machine()
    text = gdb(m, f"x/2xb {tiny.ENTRY:#x}", f"set {{char}}{tiny.ENTRY + 5:#x} = 'Z'",
               f"x/1xb {tiny.ENTRY + 5:#x}", "set $rbx = 0x123456789abcdef0", "p/x $rbx",
               "p/x $mxcsr", "x/1xb 0x7fffffffffff0000", "detach")
    has(text, r"0x66\s+0xba", r"0x5a", r"= 0x123456789abcdef0", r"= 0x1f80", r"Cannot access")
    assert m.read(1) == "Z"
    m.send("q")
    assert m.wait() == 7


def software_breakpoints_stop_and_are_not_seen_in_memory():
    m = machine()
    text = gdb(m, f"break *{tiny.WAIT:#x}", "continue", "p/x $pc", f"x/1xb {tiny.WAIT:#x}",
               "continue", "p/x $pc", "delete", "detach")
    has(text, r"Breakpoint 1", r"\$1 = 0x100007\b", r"0x66\b", r"\$2 = 0x100007\b")
    assert m.read(1) == "A"
    m.send("q")
    assert m.wait() == 7


def hardware_breakpoints_and_watchpoints_stop():
    m = machine()
    text = gdb(m, f"hbreak *{tiny.WAIT:#x}", "continue", "p/x $pc", "delete", "detach")
    has(text, r"Breakpoint 1", r"\$1 = 0x100007\b")
    m.send("q")
    assert m.wait() == 7


def an_interrupt_stops_a_running_guest():
    m = machine()
    # Spoken by hand: gdb in batch mode has nobody to press the key.
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(m.where))

        def say(command):
            data = command.encode()
            s.sendall(b"$" + data + b"#%02x" % (sum(data) % 256))

        say("c")
        assert s.recv(1) == b"+"
        assert m.read(1) == "A"
        s.sendall(b"\x03")
        got = s.recv(100)
        assert got.startswith(b"$T02thread:1;"), got
        say("D")
    m.send("q")
    assert m.wait() == 7


def every_cpu_is_a_thread():
    m = machine(cpus=3)
    text = gdb(m, "info threads", "thread 3", "p/x $pc", "thread 1", "p/x $pc", "detach")
    has(text, r"\b3 +Thread", r"\$2 = 0x100000\b")
    m.send("q")
    assert m.wait() == 7


def a_debugger_that_vanishes_leaves_no_breakpoint():
    m = machine()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(m.where))
        for command in (f"Z0,{tiny.WAIT:x},1", "c"):
            s.sendall(b"$%s#%02x" % (command.encode(), sum(command.encode()) % 256))
        got = b""
        while b"swbreak" not in got:
            got += s.recv(100)
    m.send("q")
    assert m.wait() == 7
    assert m.read(3) == "Aq"


if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm")
    sys.exit(0)
if shutil.which("gdb") is None:
    print("1..0 # SKIP gdb is not installed")
    sys.exit(0)
tiny.write_kernel(kernel)
try:
    code = tiny.run_tests([
        the_guest_waits_at_its_entry_and_is_let_go_by_detaching,
        steps_go_one_instruction_at_a_time,
        registers_and_memory_are_written,
        software_breakpoints_stop_and_are_not_seen_in_memory,
        hardware_breakpoints_and_watchpoints_stop,
        an_interrupt_stops_a_running_guest,
        every_cpu_is_a_thread,
        a_debugger_that_vanishes_leaves_no_breakpoint,
    ])
finally:
    for made in machines:
        made.close()
    shutil.rmtree(folder)
sys.exit(code)
