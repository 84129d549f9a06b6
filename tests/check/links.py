#!/usr/bin/env python3
"""Relative links in *.md lead somewhere; files that the documents name exist; ARCHITECTURE.md has
all folders, docs/dependencies.md all packages and libraries."""
import pathlib
import re
import subprocess
import sys

top = pathlib.Path(sys.argv[1])
names = subprocess.run(["git", "-C", top, "ls-files", "-co", "--exclude-standard", "*.md"],
                       check=True, capture_output=True, text=True).stdout.split()
number = 0


def report(claim, problems):
    global number
    number += 1
    for line in problems:
        print(f"# {line}")
    print(f"{'not ok' if problems else 'ok'} {number} - {claim}")
    return bool(problems)


def anchors(path):
    return {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-")
            for h in re.findall(r"^#+ (.*)", path.read_text(), re.M)}


links = 0
bad = []
files = 0
gone = []
for name in names:
    path = top / name
    if not path.exists():
        continue
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        links += 1
        file, _, anchor = target.partition("#")
        to = path.parent / file if file else path
        if not to.exists():
            bad.append(f"{name}: {target} is not there")
        elif anchor and anchor not in anchors(to):
            bad.append(f"{name}: {target}: there is no such heading")
    # `src/...` and the like in text: a path of the tree, unless it is a pattern (capitals, dots).
    for word in re.findall(r"`((?:src|docs|man|tests|tools|completion)/[\w./-]*)`", text):
        if re.search(r"NAME|FOLDER|FILE|\.\.\.", word):
            continue
        files += 1
        if not (top / word).exists():
            gone.append(f"{name}: {word} is not there")

failed = report(f"{links} relative links lead somewhere", bad if links else ["no link found"])
failed |= report(f"{files} files that the documents name exist", gone if files else ["none found"])

layers = {line.split(":")[0].strip() for line in (top / "docs/layers.txt").read_text().splitlines()
          if line.strip() and not line.startswith("#")}
table = set(re.findall(r"^\| `src/(\w+)` \|", (top / "ARCHITECTURE.md").read_text(), re.M))
real = {p.name for p in (top / "src").iterdir() if p.is_dir()}
failed |= report("the table of folders in ARCHITECTURE.md has each folder of src/",
                 [f"src/{n} is not in the table" for n in sorted(real - table)] +
                 [f"src/{n} is not there" for n in sorted(table - real)] +
                 [f"src/{n} is not in docs/layers.txt" for n in sorted(table - layers)])
text = (top / "docs/dependencies.md").read_text()
packages = {line.split("#")[0].strip() for path in (top / "tools/packages").glob("*.txt")
            for line in path.read_text().splitlines()} - {""}
libraries = {name for path in (top / "src").rglob("meson.build")
             for name in re.findall(r"dependency\('([^']+)'", path.read_text())}
failed |= report("docs/dependencies.md names each package and library",
                 [f"{name} is not there" for name in sorted(packages | libraries)
                  if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)])
print(f"1..{number}")
sys.exit(failed)
