#!/usr/bin/env python3
"""The HTTP API of isola-vmm, spoken as its clients do, with a tiny guest on /dev/kvm.

Usage: api.py ISOLA_VMM
"""
import os
import pathlib
import shutil
import socket
import stat
import sys
import tempfile
import time

import tiny

program = sys.argv[1]
folder = pathlib.Path(tempfile.mkdtemp(prefix="isola-api-", dir="/tmp"))
kernel = folder / "kernel"
machines = []


def machine(*args):
    made = tiny.Machine(program, folder, *args)
    machines.append(made)
    return made


def started():
    made = machine("--id", "m1")
    made.describe(kernel)
    made.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert made.read(1) == "A"
    return made


def a_machine_is_described_started_and_ends():
    m = machine("--id", "m1")
    assert stat.S_IMODE(os.stat(m.socket).st_mode) == 0o600
    assert m.must("GET", "/", status=200)["state"] == "Not started"
    assert "firecracker_version" in m.must("GET", "/version", status=200)
    m.describe(kernel)
    m.must("PATCH", "/machine-config", {"mem_size_mib": 24})
    config = m.must("GET", "/machine-config", status=200)
    assert config["mem_size_mib"] == 24 and config["debug_exit"] is True, config
    whole = m.must("GET", "/vm/config", status=200)
    assert whole["boot-source"]["kernel_image_path"] == str(kernel), whole
    m.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert m.must("GET", "/", status=200) == {
        "id": "m1", "state": "Running", "app_name": "isola-vmm",
        "vmm_version": m.must("GET", "/version", status=200)["firecracker_version"]}
    m.send("hello")
    assert m.read(6) == "Ahello"
    m.send("q")
    assert m.wait() == 7
    assert not m.socket.exists()


def what_is_wrong_is_refused_by_name_and_changes_nothing():
    m = machine()
    m.refused("PUT", "/nothing", {}, "/nothing is not known")
    m.refused("DELETE", "/vm", None, "/vm: DELETE is not possible")
    m.refused("PUT", "/machine-config", {"vcpu_count": 0}, "vcpu_count")
    m.refused("PUT", "/machine-config", {"colour": 1}, "colour")
    m.refused("PUT", "/machine-config", [], "must be an object")
    m.refused("PUT", "/actions", {"action_type": "FlushMetrics"}, "no metrics")
    m.refused("PUT", "/actions", {"action_type": "Dance"}, "Dance")
    m.refused("PUT", "/actions", {"action_type": "InstanceStart"}, "kernel_image_path is missing")
    m.refused("PATCH", "/vm", {"state": "Paused"}, "not started")
    m.refused("PUT", "/drives/a", {"drive_id": "b", "path_on_host": "/x"}, 'must be "a"')
    m.refused("PUT", "/drives/", {"drive_id": "", "path_on_host": "/x"}, "is not known")
    assert m.must("GET", "/vm/config", status=200) == {}
    m.must("PUT", "/drives/a", {"drive_id": "a", "path_on_host": "/x", "is_root_device": True})
    m.refused("PUT", "/drives/b", {"drive_id": "b", "path_on_host": "/y", "is_root_device": True},
              "second root device")
    m.must("PUT", "/drives/a", {"drive_id": "a", "path_on_host": "/z"})
    assert m.must("GET", "/vm/config", status=200)["drives"] == [
        {"drive_id": "a", "path_on_host": "/z"}]
    m.describe(kernel)
    m.refused("PUT", "/actions", {"action_type": "InstanceStart"}, "/z")
    assert m.must("GET", "/", status=200)["state"] == "Not started"
    m.process.terminate()
    assert m.wait() == 0


def what_runs_is_not_described_anew():
    m = started()
    m.refused("PUT", "/machine-config", {"vcpu_count": 2}, "is started")
    m.refused("PUT", "/actions", {"action_type": "InstanceStart"}, "is started")
    m.refused("PUT", "/snapshot/load", {"snapshot_path": "/a", "mem_file_path": "/b"}, "is started")
    m.refused("PATCH", "/balloon", {"amount_mib": 1}, "no balloon")
    m.refused("PUT", "/actions", {"action_type": "SendCtrlAltDel"}, "no keyboard")
    m.send("q")
    assert m.wait() == 7


def limits_of_a_drive_change_while_the_machine_runs():
    image = folder / "image"
    image.write_bytes(bytes(65536))
    m = machine()
    m.describe(kernel)
    bytes_ = {"size": 1000, "refill_time": 100}
    m.must("PUT", "/drives/a", {"drive_id": "a", "path_on_host": str(image), "format": "raw",
                                "rate_limiter": {"bandwidth": bytes_}})
    ops = {"drive_id": "a", "rate_limiter": {"ops": {"size": 7, "refill_time": 50}}}
    m.refused("PATCH", "/drives/a", ops, "not started")
    m.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert m.read(1) == "A"
    m.must("PATCH", "/drives/a", ops)
    limits = m.must("GET", "/vm/config", status=200)["drives"][0]["rate_limiter"]
    assert limits == {"bandwidth": bytes_, "ops": {"size": 7, "refill_time": 50}}, limits
    m.refused("PATCH", "/drives/b", {"drive_id": "b", "rate_limiter": {}}, "no such drive_id")
    m.refused("PATCH", "/drives/a", {"drive_id": "a", "path_on_host": "/x"}, "path_on_host")
    m.refused("PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"ops": {"size": 7}}},
              "refill_time")
    m.refused("PATCH", "/network-interfaces/n", {"iface_id": "n"}, "no such iface_id")
    assert m.must("GET", "/vm/config", status=200)["drives"][0]["rate_limiter"] == limits
    m.send("q")
    assert m.wait() == 7


def a_paused_machine_says_nothing_until_it_is_resumed():
    m = started()
    m.must("PATCH", "/vm", {"state": "Paused"})
    assert m.must("GET", "/", status=200)["state"] == "Paused"
    m.must("PATCH", "/vm", {"state": "Paused"})
    m.send("b")
    assert m.read(1, 0.3) == ""
    m.must("PATCH", "/vm", {"state": "Resumed"})
    assert m.read(1) == "b"
    m.send("q")
    assert m.wait() == 7


def a_saved_machine_goes_on_in_another_process():
    m = started()
    paths = {"snapshot_path": str(folder / "s"), "mem_file_path": str(folder / "m")}
    m.refused("PUT", "/snapshot/create", paths, "pause it")
    m.must("PATCH", "/vm", {"state": "Paused"})
    m.refused("PUT", "/snapshot/create", dict(paths, snapshot_type="Half"), "Full")
    m.refused("PUT", "/snapshot/create", dict(paths, snapshot_type="Diff"), "track_dirty_pages")
    m.must("PUT", "/snapshot/create", paths)
    m.refused("PUT", "/snapshot/create", paths, "never overwritten")
    m.close()
    copies = [machine(), machine()]
    for number, m in enumerate(copies):
        load = {"snapshot_path": paths["snapshot_path"], "resume_vm": number == 0,
                "mem_backend": {"backend_type": "File", "backend_path": paths["mem_file_path"]}}
        m.must("PUT", "/snapshot/load", load)
    assert copies[1].must("GET", "/", status=200)["state"] == "Paused"
    copies[1].must("PATCH", "/vm", {"state": "Resumed"})
    for m in copies:
        m.send("xyq")
        assert m.read(3) == "xyq"
        assert m.wait() == 7
    m = machine()
    m.refused("PUT", "/snapshot/load", {"snapshot_path": str(kernel), "mem_file_path": "/x"},
              "is no state file")
    m.must("PUT", "/entropy", {})
    m.refused("PUT", "/snapshot/load", paths, "before anything is described")


def a_difference_is_restored_upon_what_it_rests_on():
    m = machine()
    m.describe(kernel)
    m.must("PATCH", "/machine-config", {"track_dirty_pages": True})
    m.must("PUT", "/actions", {"action_type": "InstanceStart"})
    assert m.read(1) == "A"
    files = []
    for number, kind in enumerate(("Full", "Diff", "Diff")):
        m.must("PATCH", "/vm", {"state": "Paused"})
        files.append({"snapshot_path": str(folder / f"d{number}"),
                      "mem_file_path": str(folder / f"d{number}.memory")})
        if number == 0:
            m.refused("PUT", "/snapshot/create", dict(files[0], snapshot_type="Diff"),
                      "must be a full one")
        m.must("PUT", "/snapshot/create", dict(files[number], snapshot_type=kind))
        m.must("PATCH", "/vm", {"state": "Resumed"})
        m.send(str(number))
        assert m.read(1) == str(number)
    m.close()
    memory = [f["mem_file_path"] for f in files]
    m = machine()
    load = dict(files[2], resume_vm=True)
    m.refused("PUT", "/snapshot/load", load, "mem_base_paths")
    m.refused("PUT", "/snapshot/load", dict(load, mem_base_paths=memory * 2), "at most 4")
    m.refused("PUT", "/snapshot/load", dict(load, mem_base_paths=[1]), "names")
    m.refused("PUT", "/snapshot/load", dict(load, mem_base_paths=[memory[0]]), "another snapshot")
    m.must("PUT", "/snapshot/load", dict(load, mem_base_paths=[memory[1], memory[0]]))
    m.send("zq")
    assert m.read(2) == "zq"
    assert m.wait() == 7


def a_restored_machine_notes_what_is_written_when_it_is_asked_to():
    files = {"snapshot_path": str(folder / "t0"), "mem_file_path": str(folder / "t0.memory")}
    m = started()
    m.must("PATCH", "/vm", {"state": "Paused"})
    m.must("PUT", "/snapshot/create", files)
    m.close()
    for key in ("enable_diff_snapshots", "track_dirty_pages"):
        m = machine()
        m.must("PUT", "/snapshot/load", dict(files, **{key: True}))
        assert m.must("GET", "/machine-config", status=200)["track_dirty_pages"] is True
        m.must("PUT", "/snapshot/create", {
            "snapshot_path": str(folder / key), "mem_file_path": str(folder / f"{key}.memory"),
            "snapshot_type": "Diff"})
        assert os.stat(folder / f"{key}.memory").st_blocks * 512 < 1 << 20
        m.close()


def slow_and_broken_clients_keep_nobody_waiting():
    m = machine()
    slow = []
    for _ in range(12):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(m.socket))
        s.sendall(b"PUT /machine-config HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
        slow.append(s)
    start = time.monotonic()
    m.must("GET", "/version", status=200)
    assert time.monotonic() - start < 5
    for raw, status in ((b"\0\0\0\r\n\r\n", b"400"), (b"GET / HTTP/3.0\r\n\r\n", b"505"),
                        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
                        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
                        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, b"431")):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(m.socket))
            s.sendall(raw)
            got = s.recv(100)
            assert got.split(b" ")[1] == status, (raw[:40], got)
    # Ten requests at once: as many answers, in order.
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(m.socket))
        s.sendall(b"GET /version HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n" * 5)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            data = s.recv(65536)
            if not data:
                break
            got += data
        assert got.count(b"HTTP/1.1 200 OK") == 10, got
    for s in slow:
        s.close()
    m.must("GET", "/version", status=200)


if not os.access("/dev/kvm", os.R_OK | os.W_OK):
    print("1..0 # SKIP this host has no /dev/kvm")
    sys.exit(0)
tiny.write_kernel(kernel)
try:
    code = tiny.run_tests([
        a_machine_is_described_started_and_ends,
        what_is_wrong_is_refused_by_name_and_changes_nothing,
        what_runs_is_not_described_anew,
        limits_of_a_drive_change_while_the_machine_runs,
        a_paused_machine_says_nothing_until_it_is_resumed,
        a_saved_machine_goes_on_in_another_process,
        a_difference_is_restored_upon_what_it_rests_on,
        a_restored_machine_notes_what_is_written_when_it_is_asked_to,
        slow_and_broken_clients_keep_nobody_waiting,
    ])
finally:
    for made in machines:
        made.close()
    shutil.rmtree(folder)
sys.exit(code)
