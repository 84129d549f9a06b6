#!/usr/bin/env python3
"""What isola-vmm tells the descriptor of --report-fd. Usage: report.py ISOLA_VMM"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import tiny

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp(prefix="isola-report-", dir="/tmp"))
SHUTDOWN = 1  # VMM_REPORT_SHUTDOWN


def run(kernel, *args):
    """Its exit code, and what came through the pipe."""
    config = folder / "config.json"
    config.write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(kernel)},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 16, "debug_exit": True}}))
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as pipe:
        done = subprocess.run([program, "--config-file", config, "--report-fd", str(theirs), *args],
                              input=b"q", pass_fds=(theirs,), stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(theirs)
        return done, pipe.read()


def the_guest_s_own_exit_code_is_reported_in_one_piece():
    tiny.write_kernel(folder / "kernel")
    done, report = run(folder / "kernel", "--no-jail")
    assert done.returncode == 7, done
    assert report == struct.pack("<IIII", 16, 0, 7, 0), report


def a_triple_fault_is_told_from_an_exit_code():
    code = tiny.CODE
    try:
        tiny.CODE = bytes.fromhex("0f0b")  # ud2, and there is no interrupt table
        tiny.write_kernel(folder / "bad")
    finally:
        tiny.CODE = code
    done, report = run(folder / "bad", "--no-jail")
    assert done.returncode == 126 and b"triple fault" in done.stderr, done
    assert report == struct.pack("<IIII", 16, SHUTDOWN, 126, 0), report


def a_machine_that_could_not_be_made_reports_nothing():
    done, report = run(folder / "no-such-kernel", "--no-jail")
    assert done.returncode == 125 and b"no-such-kernel" in done.stderr, done
    assert report == b"", report


def a_descriptor_that_is_not_open_is_refused():
    done = subprocess.run([program, "--config-file", "x", "--report-fd", "99", "--no-jail"],
                          stderr=subprocess.PIPE, check=False)
    assert done.returncode == 125 and b"--report-fd 99 is not an open descriptor" in done.stderr, done


def a_machine_in_a_process_of_its_own_has_an_exit_status_only():
    done, report = run(folder / "kernel")
    assert done.returncode == 125 and b"--report-fd" in done.stderr, done
    assert report == b"", report


if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm")
    sys.exit(0)
try:
    code = tiny.run_tests([
        the_guest_s_own_exit_code_is_reported_in_one_piece,
        a_triple_fault_is_told_from_an_exit_code,
        a_machine_that_could_not_be_made_reports_nothing,
        a_descriptor_that_is_not_open_is_refused,
        a_machine_in_a_process_of_its_own_has_an_exit_status_only,
    ])
finally:
    shutil.rmtree(folder, ignore_errors=True)
sys.exit(code)
