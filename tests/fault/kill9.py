#!/usr/bin/env python3
"""kill -9 to any process of ours at random points; then nothing is lost and nothing is left.

Usage: kill9.py DIR ROUNDS: DIR holds the built programs. Runs in a network namespace of its own
(re-executes itself with unshare). Prints TAP. ISOLA_SEED repeats a run.

The workloads write each line to a file of the host before they print it: that is the truth which the
log is held against. Only a workload both of whose shim's processes were killed may lose output.
"""
import ctypes
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
from dataclasses import dataclass

BIN = pathlib.Path(sys.argv[1])
ROUNDS = int(sys.argv[2])
WORKLOADS = 4
SANITIZED = b"__asan_init" in (BIN / "isola-shim").read_bytes()

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


def read_status(id_):
    try:
        return json.loads((base / "run/workloads" / id_ / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def stat_of(pid):
    """Parent, state and start time; nothing when it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[1]), fields[0], int(fields[19])
    except (OSError, IndexError):
        return 0, "X", 0


@dataclass
class Process:
    pid: int
    role: str
    id: str = ""
    alone: bool = False  # a worker whose waiter is gone, a waiter without a worker


def shares_memory(pid, other):
    """kcmp(2), KCMP_VM."""
    return ctypes.CDLL(None).syscall(312, pid, other, 1, 0, 0) == 0


def classify(pid, words):
    program = os.path.basename(words[0])
    parent = stat_of(pid)[0]
    if program == "isola-shim" and SANITIZED and shares_memory(pid, parent):
        # Looks for leaks at the other's end, which waits for it for ever.
        return Process(pid, "sanitizer")
    if program != "isola-shim" or "--id" not in words:
        return Process(pid, program)
    id_ = words[words.index("--id") + 1]
    status = read_status(id_)
    if pid == status.get("shim_pid"):
        return Process(pid, "waiter", id_, stat_of(status["worker_pid"])[1] in "XZ")
    if pid == status.get("worker_pid"):
        return Process(pid, "worker", id_, parent != status["shim_pid"])
    if status and parent in (status["shim_pid"], status["worker_pid"]):
        return Process(pid, "builder", id_)
    # Before it is in the status file; or a child of a waiter that is gone.
    return Process(pid, "orphan" if status else "early", id_, bool(status))


def ours():
    """Processes that work on this test's state, ourselves left out."""
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
            found.append(classify(int(entry), words.decode(errors="replace").split("\0")))
    return found


def loop(count, pause=""):
    """A shell that writes count lines, to the truth and then to its standard output, and ends with 3."""
    return (f"read u </proc/sys/kernel/random/uuid; exec 3>>/truth/$HOSTNAME.$u; i=0; "
            f"while [ $i -lt {count} ]; do echo $u $i >&3; echo $u $i; i=$((i+1)); {pause} done; "
            f"echo end >&3; exit 3")


@dataclass
class Command:
    args: list
    process: subprocess.Popen
    began: float
    ended: float = 0.0
    out: pathlib.Path = None  # what an attached one printed
    killed: bool = False


commands = []


def start_command():
    name = f"w{rng.randrange(WORKLOADS)}"
    network = rng.choice(["none", "bridge", "none"])
    truth = f"{base}/truth:/truth"
    # Half of them under a name of their own, which nobody removes.
    kept = rng.choice([name, f"k{len(commands)}"])
    run = ["run", "--name", kept, "-v", truth, "--network", network]
    choices = [
        [*run, "-d", "isola/busybox", "sh", "-c", loop(2000)],
        [*run, "-d", "isola/busybox", "sh", "-c", loop(100000, "usleep 2000;")],
        [*run, "-dt", "isola/busybox", "sh", "-c", loop(2000)],
        [*run, "isola/busybox", "sh", "-c", loop(2000)],
        [*run, "-t", "isola/busybox", "sh", "-c", loop(2000)],
        [*run, "--rm", "isola/busybox", "sh", "-c", loop(300)],
        ["run", "--rm", "--network", network, "isola/busybox", "true"],
        [*run, "-d", "--restart", "on-failure:2", "isola/busybox", "sh", "-c", loop(10)],
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
        ["logs", name],
    ]
    args = rng.choice(choices)
    attached = args[0] == "run" and not {"-d", "-dt"} & set(args) and "true" not in args
    out = base / f"out.{len(commands)}" if attached else None
    with open(out or os.devnull, "wb") as stdout:
        process = subprocess.Popen([BIN / "isola", *args], env=env, stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=subprocess.DEVNULL)
    command = Command(args, process, time.time(), out=out)
    commands.append(command)
    return command


problems = []
killed = {}
waiter_killed = {}  # id: times
kills = []          # time, role, id
shim_lost = set()   # ids both of whose shim's processes were killed
went_on = 0


def epoll_of(proc):
    """The descriptors that a process waits for."""
    found = []
    for info in (proc / "fdinfo").iterdir():
        found += re.findall(r"^tfd:\s*(\d+) events:\s*(\S+)", info.read_text(), re.M)
    return " ".join(f"{fd}:{events}" for fd, events in found)


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
                f"call {(proc / 'syscall').read_text().strip()}; {' '.join(fds)}; "
                f"{epoll_of(proc)}")
    except OSError as error:
        return f"  {pid}: {error}"


def hang(command):
    problems.append(f"a command hung: {' '.join(command.args)} (pid {command.process.pid})")
    for p in ours():
        problems.append(describe(p.pid))
        status = read_status(p.id) if p.role == "worker" else {}
        if status.get("pid"):
            problems.append(f"  its workload, status {status}:")
            problems.append(describe(status["pid"]))


def check_survival(victim, before, start):
    """A worker was killed: the workload's first process is the same as before."""
    global went_on
    deadline = time.time() + 20
    while time.time() < deadline:
        status = read_status(victim.id)
        state, now = stat_of(before["pid"])[1:]
        if status.get("worker_pid", victim.pid) != victim.pid and state not in "XZ" and now == start:
            went_on += 1
            return
        if not status or status.get("finished_ns") or state in "XZ" or now != start:
            return  # it ended by itself or by a command; the log and the exit code are held against it
        time.sleep(0.005)
    problems.append(f"no worker took over for {victim.id[:12]}: {status}")
    problems.extend(describe(p.pid) for p in ours() if p.id == victim.id)
    problems.append(describe(before["pid"]))


def too_seldom():
    """The roles that have had fewer kills than prove something."""
    return [r for r in ("isola", "waiter", "worker") if killed.get(r, 0) < max(1, ROUNDS // 20)]


def kill_one(processes, running):
    roles = sorted({p.role for p in processes} - {"sanitizer"})
    if not roles:
        return
    # How long each lives depends on the machine: who was hit too seldom goes first, half of the time.
    role = rng.choice([r for r in too_seldom() if r in roles and rng.random() < 0.5] or roles)
    victim = rng.choice([p for p in processes if p.role == role])
    try:
        # It stays what it is while we look: an isola may be about to become a shim.
        os.kill(victim.pid, signal.SIGSTOP)
        victim = classify(victim.pid, pathlib.Path(f"/proc/{victim.pid}/cmdline").read_text(
            errors="replace").split("\0"))
        if victim.role == "sanitizer":
            os.kill(victim.pid, signal.SIGCONT)
            return
    except OSError:
        return
    before = read_status(victim.id) if victim.role == "worker" else {}
    start = stat_of(before["pid"])[2] if before.get("pid") else 0
    try:
        os.kill(victim.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    kills.append((time.time(), victim.role, victim.id))
    killed[victim.role] = killed.get(victim.role, 0) + 1
    for command in running:
        command.killed = command.killed or command.process.pid == victim.pid
    if victim.role in ("waiter", "early", "orphan"):
        waiter_killed.setdefault(victim.id, []).append(time.time())
    if victim.alone:
        shim_lost.add(victim.id)
    elif victim.role == "worker" and start:
        check_survival(victim, before, start)


def strike():
    running = [start_command() for _ in range(rng.randrange(1, WORKLOADS + 1))]
    time.sleep(rng.random() ** 2 * 0.08)
    kill_one(ours(), running)
    for command in running:
        try:
            try:
                command.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                # Its workload may have been paused beside it: then it rightly waits.
                for i in range(WORKLOADS):
                    isola("unpause", f"w{i}")
                command.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            hang(command)
            command.process.kill()
            command.process.wait()
        command.ended = time.time()


def cgroups_left():
    left = []
    for top in pathlib.Path("/sys/fs/cgroup").rglob("isola"):
        if top.is_dir():
            left += [str(d) for d in top.iterdir() if d.is_dir() and d.name in ids]
    return left


def truths():
    """The truth file of each run: short id, run, lines, whether it came to its end, when that was."""
    for path in sorted((base / "truth").iterdir(), key=lambda p: p.stat().st_mtime):
        short, run = path.name.split(".")
        lines = path.read_text().splitlines()
        ended = bool(lines) and lines[-1] == "end"
        yield short, run, len(lines) - ended, ended, path.stat().st_mtime


def was_stopped(name, id_, when):
    """Whether a command or a kill may have ended the workload between its last line and its exit."""
    for c in commands:
        if c.args[-1] == name and c.args[0] in ("stop", "restart", "rm") and (
                c.began - 1 < when < c.ended + 1):
            return True
    return any(abs(t - when) < 2 for t in waiter_killed.get(id_, []))


def compare(what, got, run, count, ended):
    """The numbers that were printed in a run are those that it says it printed."""
    want = list(range(count))
    # It may have been killed between the truth and the print.
    if got == want or (not ended and got == want[:-1]):
        return
    hole = next((i for i, n in enumerate(got) if n != i), len(got))
    problems.append(f"{what}, run {run[:8]}: {len(got)} of {count} lines, wrong at {hole}: "
                    f"{got[max(0, hole - 2):hole + 3]}, {'ended' if ended else 'killed'}")


def numbers(text):
    found = {}
    for run, n in re.findall(r"^([0-9a-f-]{36}) (\d+)$", text, re.M):
        found.setdefault(run, []).append(int(n))
    return found


def check_logs():
    rows = [r.split() for r in isola("ps", "-a", "--no-trunc", "--format",
                                     "{{.ID}} {{.Names}} {{.State}}").stdout.splitlines()]
    known = {id_[:12]: (id_, name, state) for id_, name, state in rows}
    logs = {short: numbers(isola("logs", row[0]).stdout) for short, row in known.items()}
    last = {}
    checked = 0
    for short, run, count, ended, when in truths():
        if short not in known or known[short][2] not in ("exited", "created"):
            continue
        id_, name, _ = known[short]
        last[short] = (ended, when)
        if id_ not in shim_lost:
            checked += 1
            compare(f"log of {short}", logs[short].get(run, []), run, count, ended)
    for short, (ended, when) in last.items():
        id_, name, _ = known[short]
        state = json.loads(isola("inspect", id_).stdout)[0]["State"]
        # A later run may have been killed before it could say anything.
        later = state["StartedAt"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + (
            f".{int(when % 1 * 1e9):09d}")
        if ended and state["ExitCode"] != 3 and not later and id_ not in shim_lost and (
                not was_stopped(name, id_, when)):
            problems.append(f"{short} ({name}) ended with 3 at {when} and is said to be {state}, "
                            f"kills near it {[k for k in kills if abs(k[0] - when) < 5]}")
    return checked


def check_attached():
    """An attached isola that was not killed itself has printed all that its workload printed."""
    runs = {run: (short, count, ended) for short, run, count, ended, _ in truths()}
    lost = {id_[:12] for id_ in shim_lost}
    checked = 0
    for command in commands:
        if command.out is None or command.killed or command.process.returncode not in (3, 137):
            continue
        found = numbers(command.out.read_text())
        for run, got in found.items():
            short, count, ended = runs[run]
            if short not in lost:
                checked += 1
                compare(f"output of the attached {short}", got, run, count, ended)
    return checked


def all_quiet(seconds=30):
    """Waits until who ends runs has done so: nobody but shims of running workloads is left."""
    deadline = time.time() + seconds
    while time.time() < deadline and any(p.role == "isola" for p in ours()):
        time.sleep(0.05)


ids = set()
(base / "truth").mkdir()
isola("load", "-i", str(BIN / "isola-busybox.tar"), check=True)
print("1..5", flush=True)
try:
    for number in range(4 * ROUNDS):
        if number >= ROUNDS and not too_seldom():
            break
        strike()
        if number % 20 == 19:
            ids |= set(isola("ps", "-aq", "--no-trunc").stdout.split())
    all_quiet()
    result = isola("system", "check", "--repair", timeout=120)
    if result.returncode != 0:
        problems.append(f"check --repair: {result.stderr}")
    print(f"# seed {seed}, killed {dict(sorted(killed.items()))}")
    for role in too_seldom():
        problems.append(f"too few kills hit a process '{role}'")
    for line in problems:
        print(f"# {line}")
    print(f"{'not ok' if problems else 'ok'} 1 - {sum(killed.values())} kills: nothing hung, each killed worker of"
          f" a workload that lives was replaced ({went_on})", flush=True)

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
        # One that just ends takes no command any more, and soon does not run.
        for _ in range(100 if state == "running" else 0):
            done = isola("exec", name, "true")
            if done.returncode == 0 or isola("inspect", "--format", "{{.State.Running}}",
                                             name).stdout.strip() != "true":
                break
            time.sleep(0.05)
        else:
            lively += [f"{name}: {done.stderr}"] if state == "running" else []
    for line in lively:
        print(f"# {line}")
    print(f"{'not ok' if lively else 'ok'} 3 - workloads whose shim lives go on", flush=True)

    problems = []
    names = isola("ps", "-q").stdout.split()
    if names:
        commands.append(Command(["rm", *names], None, time.time(), time.time() + 60))
        isola("unpause", *names)
        isola("stop", "-t", "0", *names)
    all_quiet()
    checked = check_logs()
    attached = check_attached()
    if checked < ROUNDS // 50 or attached < ROUNDS // 50:
        problems.append(f"too few runs to check: {checked} logs, {attached} attached")
    for line in problems:
        print(f"# {line}")
    print(f"{'not ok' if problems else 'ok'} 4 - no log line or exit status is lost or doubled "
          f"({checked} logs, {attached} attached)", flush=True)

    ids |= set(isola("ps", "-aq", "--no-trunc").stdout.split())
    names = isola("ps", "-aq").stdout.split()
    if names:
        isola("rm", "-f", "-v", *names, timeout=120)
    deadline = time.time() + 20
    while time.time() < deadline and ours():
        time.sleep(0.05)
    isola("system", "check", "--repair", timeout=120)
    left = cgroups_left()
    left += [f"process {p}:\n#{describe(p.pid)}" for p in ours()]
    left += [l for l in subprocess.run(["ip", "-o", "link"], capture_output=True,
                                       text=True).stdout.splitlines() if "veth" in l or "ivt" in l]
    left += [l for l in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
             if str(base) in l]
    left += [str(p) for p in (base / "run" / "workloads").glob("*")]
    left += [str(p) for p in (base / "root" / "workloads").glob("*")]
    for line in left:
        print(f"# left: {line}")
    print(f"{'not ok' if left else 'ok'} 5 - no process, cgroup, link, mount or file is left",
          flush=True)
finally:
    for process in ours():
        os.kill(process.pid, signal.SIGKILL)
    shutil.rmtree(base, ignore_errors=True)
