#!/usr/bin/env python3
"""What the process that runs a machine can still reach, whoever started it. Usage: jail.py ISOLA_VMM"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

import tiny

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp(prefix="isola-jail-", dir="/tmp"))
kernel = folder / "kernel"
KINDS = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user")
asan = b"__asan_init" in pathlib.Path(program).read_bytes()
machines = []


def machine(*args):
    made = tiny.Machine(program, folder, *args)
    machines.append(made)
    return made


def started(*args, extra=()):
    made = machine(*args)
    made.describe(kernel)
    for path, body in extra:
        made.must("PUT", path, body)
    made.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert made.read(1) == "A"
    return made


@contextlib.contextmanager
def running(*words):
    """A program that has ended when this does, whatever was found out about it."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as p:
        try:
            yield p
        finally:
            p.kill()


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def inner(made):
    """The process that runs the machine."""
    found = children(made.process.pid)
    assert len(found) == 1, found
    return found[0]


def status(pid, thread=None):
    text = pathlib.Path(f"/proc/{pid}/task/{thread or pid}/status").read_text()
    return {k: v.strip() for k, v in (line.split(":", 1) for line in text.splitlines())}


def namespaces(pid):
    return {k: os.stat(f"/proc/{pid}/ns/{k}").st_ino for k in KINDS}


def check_jailed(pid, outer, kinds=KINDS):
    inside, outside = namespaces(pid), namespaces(outer)
    for kind in kinds:
        assert inside[kind] != outside[kind], f"{kind} namespace is that of who started it"
    assert os.listdir(f"/proc/{pid}/root") == [], "its root directory is not empty"
    for thread in os.listdir(f"/proc/{pid}/task"):
        got = status(pid, thread)
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(got[name], 16) == 0, f"{name} is {got[name]}"
        assert got["NoNewPrivs"] == "1", got
        assert asan or got["Seccomp"] == "2", got
    for fd in os.listdir(f"/proc/{pid}/fd"):
        mode = os.stat(f"/proc/{pid}/fd/{fd}").st_mode
        assert not stat.S_ISDIR(mode), f"it holds directory {os.readlink(f'/proc/{pid}/fd/{fd}')}"
    mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    assert [m for m in mounts if " / / ro," in m] == mounts[-1:], mounts


def a_machine_with_an_api_socket_runs_in_a_process_that_reaches_nothing():
    m = started("--id", "m1")
    pid = inner(m)
    check_jailed(pid, m.process.pid)
    assert status(pid)["NSpid"].split()[-1] == "1"
    if os.geteuid() == 0:
        ids = set(status(pid)["Uid"].split() + status(pid)["Gid"].split())
        assert ids == {str(0x70000000 + m.process.pid)}, ids
        assert status(pid)["Groups"] == "", status(pid)
    m.send("q")
    assert m.wait() == 7


def so_does_a_machine_with_a_debugger():
    m = machine("--gdb", f"unix:{folder}/gdb.sock")
    m.describe(kernel)
    m.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert m.must("GET", "/", status=200)["state"] == "Paused"
    check_jailed(inner(m), m.process.pid)
    m.process.terminate()
    assert m.wait() == 0
    assert not (folder / "gdb.sock").exists()


def and_one_that_is_only_described_by_a_file():
    config = folder / "config.json"
    config.write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(kernel)},
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 16, "debug_exit": True},
        "vsock": {"guest_cid": 3, "uds_path": str(folder / "v.sock")}}))
    with running(program, "--config-file", config) as p:
        assert p.stdout.read(1) == b"A"
        check_jailed(children(p.pid)[0], p.pid)
        assert (folder / "v.sock").exists()
        p.stdin.write(b"q")
        assert p.wait(20) == 7
    assert not (folder / "v.sock").exists()


def a_restored_machine_is_jailed_too_and_can_be_saved_again():
    m = started()
    m.must("PATCH", "/vm", {"state": "Paused"})
    m.must("PUT", "/snapshot/create",
           {"snapshot_path": f"{folder}/s1", "mem_file_path": f"{folder}/m1"})
    m.close()
    m = machine()
    m.must("PUT", "/snapshot/load", {"snapshot_path": f"{folder}/s1",
                                     "mem_file_path": f"{folder}/m1", "resume_vm": True})
    check_jailed(inner(m), m.process.pid)
    m.send("x")
    assert m.read(1) == "x"
    m.must("PATCH", "/vm", {"state": "Paused"})
    m.must("PUT", "/snapshot/create",
           {"snapshot_path": f"{folder}/s2", "mem_file_path": f"{folder}/m2"})
    assert stat.S_IMODE(os.stat(folder / "s2").st_mode) == 0o600
    m.close()


def a_share_is_all_that_its_server_can_reach():
    (folder / "share").mkdir()
    (folder / "share/file").write_text("x")
    config = {"boot-source": {"kernel_image_path": str(kernel)},
              "machine-config": {"vcpu_count": 1, "mem_size_mib": 16, "debug_exit": True},
              "fs": [{"tag": "t", "path_on_host": str(folder / "share")}]}
    (folder / "fs.json").write_text(json.dumps(config))
    with running(program, "--config-file", folder / "fs.json") as p:
        assert p.stdout.read(1) == b"A"
        server = children(children(p.pid)[0])[0]
        assert pathlib.Path(f"/proc/{server}/comm").read_text() == "isola-fs\n"
        inside, outside = namespaces(server), namespaces(p.pid)
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert inside[kind] != outside[kind], f"{kind} namespace is that of who started it"
        assert os.listdir(f"/proc/{server}/root") == ["file"]
        got = status(server)
        assert int(got["CapEff"], 16) & ~0x1b == 0, got["CapEff"]  # on files, no other
        assert got["NoNewPrivs"] == "1" and (asan or got["Seccomp"] == "2"), got
        p.stdin.write(b"q")
        assert p.wait(20) == 7
        assert not os.path.exists(f"/proc/{server}")


def an_ordinary_user_s_machine_is_jailed_in_a_user_namespace_of_his():
    if os.geteuid() != 0:
        return
    place = folder / "user"
    place.mkdir()
    os.chown(place, 4321, 4321)
    os.chmod(folder, 0o755)
    shutil.copy(kernel, place / "kernel")
    os.chmod(place / "kernel", 0o644)
    copy = place / "isola-vmm"  # the build directory need not be open to him
    shutil.copy(program, copy)
    (place / "config.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(place / "kernel")},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 16, "debug_exit": True}}))
    # The device's node that he may use is there for him alone.
    os.mknod(place / "kvm", stat.S_IFCHR | 0o666, os.makedev(10, 232))
    os.chmod(place / "kvm", 0o666)
    with running("unshare", "-m", "sh", "-c", 'mount --bind "$1" /dev/kvm && shift && exec "$@"',
                 "sh", place / "kvm", "setpriv", "--reuid=4321", "--regid=4321", "--clear-groups",
                 copy, "--config-file", place / "config.json") as p:
        assert p.stdout.read(1) == b"A"
        pid = children(p.pid)[0]
        check_jailed(pid, p.pid)
        assert set(status(pid)["Uid"].split()) == {"4321"}
        p.stdin.write(b"q")
        assert p.wait(20) == 7


def where_no_namespaces_can_be_had_no_machine_starts():
    (folder / "refused.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(kernel)},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 16, "debug_exit": True}}))
    without = ["unshare", "-Ur", "sh", "-c",
               'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh", "setpriv",
               "--bounding-set=-sys_admin", program, "--config-file", folder / "refused.json"]
    done = subprocess.run(without, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert done.returncode == 125 and done.stdout == b"", done
    assert b"user.max_user_namespaces" in done.stderr and b"--no-jail" in done.stderr, done
    with running(*without, "--no-jail") as p:
        assert p.stdout.read(1) == b"A"
        p.stdin.write(b"q")
        assert p.wait(20) == 7


def without_a_jail_there_is_one_process():
    m = started("--no-jail")
    assert children(m.process.pid) == []
    m.send("q")
    assert m.wait() == 7


def until_gone(pid):
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.01)


def neither_process_outlives_the_other():
    m = started()
    pid = inner(m)
    m.process.kill()
    until_gone(pid)
    m.process.communicate()
    m = started()
    os.kill(inner(m), signal.SIGKILL)
    assert m.process.wait(10) == 126
    assert b"ended by signal 9" in m.process.stderr.read()
    assert not m.socket.exists()


def one_that_does_not_answer_keeps_nobody_from_ending_it():
    m = started()
    os.kill(inner(m), signal.SIGSTOP)  # as one that was taken over
    said = []

    def get():
        try:
            said.append(m.call("GET", "/"))
        except OSError:
            said.append(None)
    asking = threading.Thread(target=get)
    asking.start()
    time.sleep(0.3)
    m.process.terminate()
    asking.join(20)
    assert m.process.wait(10) == 126 and said, said
    m = started()
    os.kill(inner(m), signal.SIGSTOP)
    m.process.terminate()
    time.sleep(0.1)
    assert m.process.poll() is None
    m.process.terminate()
    assert m.process.wait(10) == 126


if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm")
    sys.exit(0)
tiny.write_kernel(kernel)
try:
    code = tiny.run_tests([
        a_machine_with_an_api_socket_runs_in_a_process_that_reaches_nothing,
        so_does_a_machine_with_a_debugger,
        and_one_that_is_only_described_by_a_file,
        a_restored_machine_is_jailed_too_and_can_be_saved_again,
        a_share_is_all_that_its_server_can_reach,
        an_ordinary_user_s_machine_is_jailed_in_a_user_namespace_of_his,
        where_no_namespaces_can_be_had_no_machine_starts,
        without_a_jail_there_is_one_process,
        neither_process_outlives_the_other,
        one_that_does_not_answer_keeps_nobody_from_ending_it,
    ])
finally:
    for one in machines:
        one.process.kill()
    shutil.rmtree(folder, ignore_errors=True)
sys.exit(code)
