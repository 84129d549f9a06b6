#!/usr/bin/env python3
"""Files hold at most 1,000 lines and functions at most 80; docs/size-exempt.txt names the tables."""
import pathlib
import re
import subprocess
import sys

FILE_MAX = 1000
FUNCTION_MAX = 80
top = pathlib.Path(sys.argv[1])
exempt = {
    line.split("#")[0].strip()
    for line in (top / "docs/size-exempt.txt").read_text().splitlines()
} - {""}
names = subprocess.run(
    ["git", "-C", top, "ls-files", "-co", "--exclude-standard", "*.c", "*.h", "*.py", "*.bats"],
    check=True, capture_output=True, text=True).stdout.split()

bad = []
functions = 0
for name in names:
    if not (top / name).exists():
        continue
    lines = (top / name).read_text().splitlines()
    if len(lines) > FILE_MAX and name not in exempt:
        bad.append(f"{name}: {len(lines)} lines")
    if not name.endswith(".c"):
        continue
    # clang-format puts the braces of functions (and of nothing else but types) in column 0.
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            functions += 1
            if number - start - 1 > FUNCTION_MAX and f"{name}:{lines[start - 2]}" not in exempt:
                before = re.sub(r"\s+", " ", lines[start - 2])
                bad.append(f"{name}:{start}: {number - start - 1} lines in {before}")
            start = None

print("1..1")
for line in bad:
    print(f"# {line}")
print(f"{'not ok' if bad or not functions else 'ok'} 1 - {len(names)} files and {functions} "
      f"functions are short enough")
