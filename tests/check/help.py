#!/usr/bin/env python3
"""The man pages and --help say the same. Usage: help.py SOURCE ISOLA ISOLA-OCI

man/isola.1 has a subsection ".Ss isola COMMAND[, isola COMMAND...]" for each command that it
describes, with an ".It Fl" for each option: exactly those of --help. A command without one must be
on another page of man/, with all its options. man/isola-oci.8 must name all of isola-oci.
"""
import pathlib
import re
import subprocess
import sys

man = pathlib.Path(sys.argv[1], "man")
isola, isola_oci = sys.argv[2:4]
pages = {p.name: p.read_text() for p in sorted(man.glob("*.[1-8]"))}
number = 0
failed = False


def report(claim, problems):
    global number, failed
    number += 1
    for line in problems:
        print(f"# {line}")
    failed = failed or bool(problems)
    print(f"{'not ok' if problems else 'ok'} {number} - {claim}")


def help_of(*words):
    return subprocess.run([*words, "--help"], check=True, capture_output=True, text=True).stdout


def rows(text, heading):
    part = re.search(rf"^{heading}:\n((?:  .*\n)+)", text, re.M)
    return re.findall(r"^  ([a-z][a-z-]*) ", part.group(1), re.M) if part else []


def options(text):
    """{"--name": "-n" or ""} of a --help text."""
    found = re.findall(r"^  (?:(-\w), |    |)\s*(--[a-z0-9-]+)", text, re.M)
    return {name: letter for letter, name in found if name != "--help"}


def plain(page):
    """The page as text, for pages whose form we do not know."""
    out = subprocess.run(["mandoc", "-Tascii", man / page], check=True, capture_output=True, text=True)
    return re.sub(r"\s+", " ", re.sub(".\b", "", out.stdout))


def sections(text):
    """{"run": {"--detach": "-d"}} of isola.1; "" holds the options before the command."""
    found = {}
    names = [""]
    for line in text.splitlines():
        if line.startswith(".Sh "):
            names = [""] if line == ".Sh DESCRIPTION" else []
        elif line.startswith(".Ss "):
            names = [n.strip().removeprefix("isola ") for n in line[4:].split(",")]
            found.update({n: {} for n in names})
        elif line.startswith(".It Fl "):
            letter = re.search(r"Fl (\w)\b", line)
            name = re.search(r"Fl (-[a-z0-9-]+)", line)
            for n in names:
                found.setdefault(n, {})[f"-{name.group(1)}" if name else line] = (
                    f"-{letter.group(1)}" if letter else "")
    return found


def compare(where, described, real):
    problems = [f"{where}: {o} is not in man/isola.1" for o in sorted(real.keys() - described.keys())]
    problems += [f"{where}: --help has no {o}" for o in sorted(described.keys() - real.keys())]
    problems += [f"{where}: {o} is {described[o] or 'long only'} in man/isola.1, "
                 f"{real[o] or 'long only'} in --help"
                 for o in real if o in described and described[o] != real[o]]
    return problems


top = help_of(isola)
described = sections(pages["isola.1"])
report("the options before the command are those of man/isola.1",
       compare("isola", described.pop("", {}), options(top)))

commands = [(name,) for name in rows(top, "Commands")]
for group in rows(top, "Groups"):
    commands += [(group, name) for name in rows(help_of(isola, group), "Commands")]
others = {name: plain(name) for name in pages if name != "isola.1" and name != "isola-oci.8"}
real = {" ".join(words): options(help_of(isola, *words)) for words in commands}

missing = []
shared = {}  # options of commands that share a subsection: together they are the subsection's
for line in re.findall(r"^\.Ss (.*)", pages["isola.1"], re.M):
    names = [n.strip().removeprefix("isola ") for n in line.split(",")]
    together = {}
    for name in names:
        together.update(real.get(name, {}))
    shared.update({name: together for name in names})
for name, wanted in real.items():
    if name in described:
        continue
    holders = [p for p, text in others.items()
               if re.search(rf"\bisola {name}\b", text) and all(o in text for o in wanted)]
    if not holders:
        missing.append(f"isola {name}: no man page has it with {' '.join(wanted) or 'its name'}")
report(f"each of the {len(real)} commands of isola is in a man page", missing)
report("each command in man/isola.1 has exactly the options of its --help",
       [p for name in described for p in (
           compare(f"isola {name}", described[name], shared[name]) if name in real
           else [f"isola {name}: there is no such command"])])

if "isola-oci.8" in pages:
    text = plain("isola-oci.8")
    top = help_of(isola_oci)
    problems = [f"{o} is not there" for o in options(top) if o not in text]
    known = set(options(top)) | {"--help"}
    for name in rows(top, "Commands"):
        wanted = options(help_of(isola_oci, name))
        known |= set(wanted)
        if not re.search(rf"\b{name}\b", text):
            problems.append(f"{name} is not there")
        problems += [f"{name}: {o} is not there" for o in wanted if o not in text]
    source = re.findall(r"^\.It Fl .*", pages["isola-oci.8"], re.M)
    problems += [f"isola-oci has no -{o}" for line in source
                 for o in re.findall(r"Fl (-[a-z0-9-]+)", line) if f"-{o}" not in known]
    report("man/isola-oci.8 and isola-oci --help name the same options", problems)

print(f"1..{number}")
sys.exit(failed)
