#!/usr/bin/env python3
"""Each folder under src/ includes only the folders that docs/layers.txt names, without circles."""
import pathlib
import re
import sys

top = pathlib.Path(sys.argv[1])
allowed = {}
for line in (top / "docs/layers.txt").read_text().splitlines():
    line = line.split("#")[0].strip()
    if line:
        name, _, rest = line.partition(":")
        allowed[name.strip()] = rest.split()

direct = {n: set(u) - {"*"} for n, u in allowed.items()}


def closure(name, seen=()):
    if name in seen:
        sys.exit(f"not ok 1 - circle in docs/layers.txt: {' -> '.join(seen + (name,))}")
    found = set(direct.get(name, ()))
    for other in direct.get(name, ()):
        found |= closure(other, seen + (name,))
    return found


bad = []
count = 0
for path in sorted((top / "src").rglob("*.[ch]")):
    folder = path.relative_to(top / "src").parts[0]
    if folder not in allowed:
        bad.append(f"src/{folder} is not in docs/layers.txt")
        continue
    may = closure(folder) | {folder}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        count += 1
        target = match.group(1).split("/")[0]
        if "/" not in match.group(1) and not match.group(1).endswith(".inc"):
            bad.append(f"{path.relative_to(top)}:{number}: include by folder, not {match.group(1)}")
        elif "/" in match.group(1) and "*" not in allowed[folder] and target not in may:
            bad.append(f"{path.relative_to(top)}:{number}: {folder} may not include {target}")

print("1..1")
for line in bad:
    print(f"# {line}")
print(f"{'not ok' if bad or not count else 'ok'} 1 - {count} includes follow docs/layers.txt")
