#!/usr/bin/env python3
"""Reads meson's testlog.json of each build against the TAP plans and prints the closing line.

meson 1.0.1 shows a TAP test that timed out or died as passed in its JUnit file; here a test counts
only when its plan is complete. A skip must give a reason; with CI set, one that is not in
tests/allowed-skips.txt is a failure.
"""
import json
import os
import pathlib
import re
import sys

here = pathlib.Path(__file__).parent
allowed = [
    line.strip()
    for line in (here / "allowed-skips.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]
passed = failed = skipped = 0


def fail(text):
    global failed
    failed += 1
    print(f"FAILED: {text}")


def remarks(lines, at):
    """What the test said around its result line: bats says it behind, our own tests before."""
    first = at
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    last = at + 1
    while last < len(lines) and lines[last].startswith("#"):
        last += 1
    for line in (lines[first:at] + lines[at + 1 : last])[:40]:
        print(f"    {line[:400]}")


def note_skip(name, reason, what):
    global skipped
    skipped += 1
    if os.environ.get("CI") and not any(a in reason for a in allowed):
        fail(f"{name}: skip that is not on the list: {what}: {reason}")


for build in sys.argv[1:]:
    log = pathlib.Path(build, "meson-logs/testlog.json")
    if not log.exists():
        fail(f"{build}: no test log")
        continue
    for line in log.read_text().splitlines():
        test = json.loads(line)
        name = f"{build}: {test['name']}"
        plan = None
        seen = 0
        before = failed
        lines = test.get("stdout", "").splitlines()
        for at, out in enumerate(lines):
            if match := re.match(r"1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?", out, re.I):
                plan = int(match.group(1))
                if match.group(2):
                    note_skip(name, match.group(2), "all of it")
            match = re.match(r"(not )?ok\b\s*(\d+)?\s*-?\s*(.*)", out)
            if not match:
                continue
            seen += 1
            skip = re.search(r"#\s*skip\S*\s*(.*)", match.group(3), re.I)
            if match.group(1):
                fail(f"{name}: {match.group(3)}")
                remarks(lines, at)
            elif skip:
                note_skip(name, skip.group(1), match.group(3))
            else:
                passed += 1
        died = test["result"] in ("TIMEOUT", "ERROR", "INTERRUPT") and failed == before
        if plan is None or plan != seen or died:
            fail(f"{name}: {test['result']}, {seen} of {plan} tests reported")

print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed or not passed else 0)
