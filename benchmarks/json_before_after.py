"""Compare the documents of every command in two checkouts: whether a change of code changed a figure.

    python benchmarks/json_before_after.py ../before . [NAME ...]

Runs the commands of this checkout's tests/reports.py with --json in both, each checkout in a process of its own, and
prints path, old and new value of whatever differs; leaves with 1 if anything does. Names choose among the commands.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests"
#: relative difference up to which two numbers are the same: the order of a sum may change
SAME = 1e-12
#: differences of one command that are printed
MOST = 20
#: what each checkout runs: commands on stdin, what they print as JSON on stdout
INSIDE = """
import io, json, os, shutil, sys
from contextlib import redirect_stderr, redirect_stdout
checkout, files, folder = sys.argv[1:]
sys.path.insert(0, checkout)
from kvplan.cli import main
asked, found = json.load(sys.stdin), {}
for name, words in asked.items():
    shutil.copytree(files, os.path.join(folder, name))
    os.chdir(os.path.join(folder, name))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([*words, "--json"])
        except SystemExit as left:
            code = left.code or 0
    found[name] = {"exit status": code, "stderr": err.getvalue(), "document": json.loads(out.getvalue() or "null")}
print(json.dumps(found))
"""


def documents(checkout: Path, asked: dict[str, list[str]]) -> dict[str, Any]:
    """Return what a checkout answers to each command."""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", INSIDE, str(checkout.resolve()), str(TESTS / "golden" / "files"), folder],
            input=json.dumps(asked), capture_output=True, text=True, check=False, cwd=folder,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr}")
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (path, old, new) of every value that differs or that one side lacks."""
    lacks = "(none)"
    return [
        (path, old.get(path, lacks), new.get(path, lacks))
        for path in dict.fromkeys((*old, *new))
        if not same(old.get(path, lacks), new.get(path, lacks))
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= SAME * max(abs(a), abs(b))
    return type(a) is type(b) and a == b


def main(before: str, after: str, *names: str) -> int:
    """Print what differs; return how many commands do."""
    sys.path[:0] = [str(TESTS), str(Path(after).resolve())]
    from printing import leaves
    from reports import REPORTS

    asked = {name: shlex.split(REPORTS[name]) for name in names or REPORTS}
    old, new = (documents(Path(checkout), asked) for checkout in (before, after))
    changed = 0
    for name in asked:
        found = differences(dict(leaves(old[name])), dict(leaves(new[name])))
        changed += bool(found)
        for path, was, now in found[:MOST]:
            print(f"{name}: {path}: {was!r} -> {now!r}")
        if len(found) > MOST:
            print(f"{name}: {len(found) - MOST} more")
    print(f"{len(asked)} commands, {changed} with differences")
    return changed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
