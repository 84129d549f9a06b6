#!/usr/bin/env python3
"""kill -9 to any process of ours at random points; then nothing is lost and nothing is left.

Usage: kill9.py DIR ROUNDS: DIR holds the built programs. Runs in a network namespace of its own
(re-executes itself with unshare). Prints TAP. ISOLA_SEED repeats a run.
"""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(sys.argv[1])
ROUNDS = int(sys.argv[2])
WORKLOADS = 4

if os.environ.get("ISOLA_FAULT_INSIDE") != "1":
    os.environ["ISOLA_FAULT_INSIDE"] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable] + sys.argv)

seed = int(os.environ.get("ISOLA_SEED", random.SystemRandom().randrange(1 << 32)))
rng = random.Random(seed)
base = pathlib.Path(tempfile.mkdtemp(prefix="isola-fault-", dir="/var/tmp"))
env = dict(os.environ, ISOLA_ROOT=str(base / "root"), ISOLA_RUN=str(base / "run"))
# A leak report of a process that was killed half-way says nothing.
env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def isola(*args, check=False, timeout=60):
    done = subprocess.run([BIN / "isola", *args], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"isola {' '.join(args)}: {done.stderr}")
    return done


def ours():
    """Pids of processes that work on this test's state, ourselves left out."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            words = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            environ = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        program = os.path.basename(words.split(b"\0")[0])
        if program.startswith(b"isola") and (
                str(base).encode() in words or str(base).encode() in environ):
            found.append(int(entry))
    return found


def start_command():
    name = f"w{rng.randrange(WORKLOADS)}"
    loop = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 3"
    network = rng.choice(["none", "bridge", "none"])
    commands = [
        ["run", "-d", "--name", name, "--network", network, "isola/busybox", "sh", "-c", loop],
        ["run", "-d", "--name", name, "--network", network, "isola/busybox", "sleep", "60"],
        ["run", "--rm", "--network", network, "isola/busybox", "true"],
        ["run", "-d", "--name", name, "--restart", "on-failure:2", "--network", "none",
         "isola/busybox", "sh", "-c", "exit 3"],
        ["run", "-d", "--name", name, "-v", "/data", "-p", f"{20000 + rng.randrange(9)}:80",
         "isola/busybox", "sleep", "60"],
        ["exec", name, "true"],
        ["stop", "-t", "0", name],
        ["restart", "-t", "0", name],
        ["start", name],
        ["rm", "-f", name],
        ["pause", name],
        ["unpause", name],
        ["ps", "-a"],
    ]
    return subprocess.Popen([BIN / "isola", *rng.choice(commands)], env=env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


problems = []
killed = {}


def describe(pid):
    """What a process of ours waits for, for the report of a hang."""
    proc = pathlib.Path("/proc", str(pid))
    try:
        words = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state = re.search(r"^State:\s*(.*)$", (proc / "status").read_text(), re.M).group(1)
        parent = re.search(r"^PPid:\s*(.*)$", (proc / "status").read_text(), re.M).group(1)
        fds = []
        for fd in sorted((proc / "fd").iterdir(), key=lambda p: int(p.name)):
            fds.append(f"{fd.name}={os.readlink(fd)}")
        return (f"  {pid} (parent {parent}, {state}) {words}: {(proc / 'wchan').read_text()}, "
                f"call {(proc / 'syscall').read_text().strip()}; {' '.join(fds)}")
    except OSError as error:
        return f"  {pid}: {error}"


def hang(process):
    problems.append(f"a command hung: {' '.join(map(str, process.args[1:]))} (pid {process.pid})")
    problems.extend(describe(pid) for pid in ours())


def strike():
    running = [start_command() for _ in range(rng.randrange(1, WORKLOADS + 1))]
    time.sleep(rng.random() ** 2 * 0.08)
    victims = ours()
    if victims:
        victim = rng.choice(victims)
        try:
            words = pathlib.Path(f"/proc/{victim}/cmdline").read_text().split("\0")
            kind = os.path.basename(words[0])
            os.kill(victim, signal.SIGKILL)
            killed[kind] = killed.get(kind, 0) + 1
        except (OSError, ProcessLookupError):
            pass
    for process in running:
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            hang(process)
            process.kill()
            process.wait()


def cgroups_left():
    left = []
    for top in pathlib.Path("/sys/fs/cgroup").rglob("isola"):
        if top.is_dir():
            left += [str(d) for d in top.iterdir() if d.is_dir() and d.name in ids]
    return left


def check_logs():
    """What the log has of a workload's lines is a prefix without holes."""
    for row in isola("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}").stdout.splitlines():
        id_, state = row.split()
        lines = re.findall(r"^line (\d+)$", isola("logs", id_).stdout, re.M)
        runs = [i for i, n in enumerate(lines) if n == "0"] + [len(lines)]
        for a, b in zip(runs, runs[1:]):
            if lines[a:b] != [str(i) for i in range(b - a)]:
                problems.append(f"log of {id_[:12]} has a hole")
        info = json.loads(isola("inspect", id_).stdout)[0]["State"]
        if state == "exited" and info["ExitCode"] == 3 and lines and len(lines) % 2000:
            # It ran to its end: all lines of its last run must be there.
            if len(lines[runs[-2]:]) != 2000:
                problems.append(f"log of {id_[:12]} lost its end: {len(lines)} lines")


ids = set()
isola("load", "-i", str(BIN / "isola-busybox.tar"), check=True)
print("1..4", flush=True)
try:
    for number in range(ROUNDS):
        strike()
        if number % 20 == 19:
            ids |= set(isola("ps", "-aq", "--no-trunc").stdout.split())
    deadline = time.time() + 20
    while time.time() < deadline and any(
            "reap" in pathlib.Path(f"/proc/{p}/cmdline").read_text() for p in ours()
            if os.path.exists(f"/proc/{p}/cmdline")):
        time.sleep(0.1)
    result = isola("system", "check", "--repair", timeout=120)
    if result.returncode != 0:
        problems.append(f"check --repair: {result.stderr}")
    check_logs()
    print(f"# seed {seed}, killed {killed}")
    if killed.get("isola", 0) < ROUNDS // 10 or killed.get("isola-shim", 0) < ROUNDS // 10:
        problems.append("too few kills hit")
    for line in problems:
        print(f"# {line}")
    print(f"{'not ok' if problems else 'ok'} 1 - {ROUNDS} kills: nothing hung, no log line or exit status lost",
          flush=True)

    again = isola("system", "check", timeout=120)
    clean = again.returncode == 0
    if not clean:
        print("# " + again.stdout.replace("\n", "\n# ") + again.stderr)
    print(f"{'ok' if clean else 'not ok'} 2 - after check --repair there is nothing more to repair",
          flush=True)

    # Those that live go on and can be used.
    lively = []
    for row in isola("ps", "--format", "{{.Names}} {{.State}}").stdout.splitlines():
        name, state = row.split()
        if state == "running":
            done = isola("exec", name, "true")
            if done.returncode != 0:
                lively.append(f"{name}: {done.stderr}")
    for line in lively:
        print(f"# {line}")
    print(f"{'not ok' if lively else 'ok'} 3 - workloads whose shim lives go on", flush=True)

    ids |= set(isola("ps", "-aq", "--no-trunc").stdout.split())
    names = isola("ps", "-aq").stdout.split()
    if names:
        isola("rm", "-f", "-v", *names, timeout=120)
    time.sleep(1)
    isola("system", "check", "--repair", timeout=120)
    left = cgroups_left()
    left += [f"process {p}" for p in ours()]
    left += [l for l in subprocess.run(["ip", "-o", "link"], capture_output=True,
                                       text=True).stdout.splitlines() if "veth" in l or "ivt" in l]
    left += [l for l in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
             if str(base) in l]
    left += [str(p) for p in (base / "run" / "workloads").glob("*")]
    left += [str(p) for p in (base / "root" / "workloads").glob("*")]
    for line in left:
        print(f"# left: {line}")
    print(f"{'not ok' if left else 'ok'} 4 - no process, cgroup, link, mount or file is left",
          flush=True)
finally:
    for pid in ours():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(base, ignore_errors=True)
