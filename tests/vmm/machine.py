#!/usr/bin/env python3
"""`isola machine`, with a tiny guest on /dev/kvm. Usage: machine.py ISOLA"""
import os
import pathlib
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time

import tiny

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp(prefix="isola-machine-", dir="/tmp"))
kernel = folder / "kernel"
env = dict(os.environ, ISOLA_ROOT=str(folder / "root"), ISOLA_RUN=str(folder / "run"))


def isola(*words, stdin="", code=0):
    done = subprocess.run([program, "machine", *map(str, words)], input=stdin, env=env, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == code, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
    return done.stdout + done.stderr


def say(name, text, want):
    """By its console: sends text, reads until want came."""
    with subprocess.Popen([program, "machine", "console", name], env=env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, bufsize=0) as p:
        p.stdin.write(text.encode())
        got = b""
        end = time.monotonic() + 20
        while want.encode() not in got and time.monotonic() < end:
            if select.select([p.stdout], [], [], 0.1)[0]:
                got += os.read(p.stdout.fileno(), 100)
        p.kill()
        assert want.encode() in got, got


def until_said(name, text):
    end = time.monotonic() + 20
    while (folder / "run/machines" / name / "console.log").read_text() != text:
        assert time.monotonic() < end, f"{name} does not say {text}"
        time.sleep(0.01)


def until_gone(name):
    end = time.monotonic() + 20
    while (folder / "run/machines" / name).exists():
        assert time.monotonic() < end, f"{name} is still there"
        time.sleep(0.01)


def an_attached_machine_has_our_standard_streams():
    assert isola("run", "--kernel", kernel, stdin="abcq") == "Aabcq"
    assert list((folder / "run/machines").iterdir()) == []


def a_detached_machine_is_listed_paused_and_stopped():
    assert isola("run", "-d", "--name", "one", "--kernel", kernel, "-m", "16m",
                 "--cpus", "2") == "one\n"
    assert "one runs already" in isola("run", "-d", "--name", "one", "--kernel", kernel,
                                       code=125).replace("'", "").replace("machine ", "")
    assert isola("ls", "--format", "{{.Name}} {{.State}} {{.CPUs}} {{.Memory}}") == \
        "one Running 2 16MiB\n"
    say("one", "xyz", "xyz")
    assert (folder / "run/machines/one/console.log").read_text() == "Axyz"
    isola("pause", "one")
    assert isola("ls", "--format", "{{.State}}") == "Paused\n"
    isola("resume", "one")
    say("one", "w", "w")
    isola("stop", "-t", "100ms", "one")
    until_gone("one")
    assert isola("ls", "-q") == ""


def a_snapshot_goes_on_beside_the_machine_it_is_of():
    isola("run", "-d", "--name", "a", "--kernel", kernel, "-m", "16m")
    until_said("a", "A")
    assert "never overwritten" not in isola("snapshot", "a", folder / "snap")
    assert "never overwritten" in isola("snapshot", "a", folder / "snap", code=1)
    isola("restore", "-d", "--name", "b", folder / "snap")
    for name in ("a", "b"):
        say(name, name, name)
        isola("stop", "-t", "0", name)
        until_gone(name)
    said = isola("restore", folder / "snap", stdin="zq")
    assert said == "zq", said


def a_difference_is_restored_upon_the_snapshots_before():
    isola("run", "-d", "--name", "d", "--kernel", kernel, "-m", "16m", "--track-dirty-pages")
    say("d", "1", "1")
    isola("snapshot", "d", folder / "full")
    say("d", "2", "2")
    isola("snapshot", "--diff", "d", folder / "diff")
    isola("stop", "-t", "0", "d")
    until_gone("d")
    assert (folder / "diff.memory").stat().st_blocks < (folder / "full.memory").stat().st_blocks
    assert "mem_base_paths" in isola("restore", "-d", folder / "diff", code=125)
    assert "No such file" in isola("restore", "--base", "/nowhere", folder / "diff", code=125)
    assert isola("restore", "--base", folder / "full", folder / "diff", stdin="zq",
                 code=0) == "zq"
    assert list((folder / "run/machines").iterdir()) == []


def what_cannot_run_is_said_and_leaves_nothing():
    assert "'/nowhere'" in isola("run", "-d", "--kernel", kernel, "--disk", "/nowhere", code=125)
    assert "format=raw" in isola("run", "--kernel", kernel, "--disk", f"{kernel},blue", code=125)
    assert "isola kernel install" in isola("run", code=125)
    assert "ELF field" in isola("run", "-d", "--kernel", "/bin/ls", code=125)
    assert "no name" in isola("run", "--kernel", kernel, "--name", "../x", code=125)
    assert "vcpu_count" in isola("run", "-d", "--kernel", kernel, "--cpus", "0", code=125)
    assert "no machine 'ghost'" in isola("pause", "ghost", code=1)
    assert "no state file" in isola("restore", "-d", kernel, code=125)
    assert list((folder / "run/machines").iterdir()) == []


def killing_its_keeper_ends_the_machine_and_frees_its_name():
    isola("run", "-d", "--name", "k", "--kernel", kernel, "-m", "16m")
    pid = int((folder / "run/machines/k/pid").read_text().split()[0])
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    keeper = int([l for l in status.splitlines() if l.startswith("PPid:")][0].split()[1])
    os.kill(keeper, 9)
    end = time.monotonic() + 20
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert isola("ls", "-q") == ""
    isola("run", "-d", "--name", "k", "--kernel", kernel, "-m", "16m")
    isola("stop", "-t", "0", "k")
    until_gone("k")


def the_escape_key_switches_an_attached_machine_off():
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(program, [program, "machine", "run", "--kernel", str(kernel)], env)
    got = b""
    while b"A" not in got.replace(b"C-a", b""):
        got += os.read(fd, 1000)
    os.write(fd, b"m\x01a")  # C-a a is the key itself
    while b"m\x01" not in got:
        got += os.read(fd, 1000)
    os.write(fd, b"\x01x")
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0, got


if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm")
    sys.exit(0)
tiny.write_kernel(kernel)
try:
    code = tiny.run_tests([
        an_attached_machine_has_our_standard_streams,
        a_detached_machine_is_listed_paused_and_stopped,
        a_snapshot_goes_on_beside_the_machine_it_is_of,
        a_difference_is_restored_upon_the_snapshots_before,
        what_cannot_run_is_said_and_leaves_nothing,
        killing_its_keeper_ends_the_machine_and_frees_its_name,
        the_escape_key_switches_an_attached_machine_off,
    ])
finally:
    for name in list((folder / "run/machines").glob("*/pid")):
        try:
            os.kill(int(name.read_text().split()[0]), 15)
        except (OSError, ValueError):
            pass
    shutil.rmtree(folder, ignore_errors=True)
sys.exit(code)
