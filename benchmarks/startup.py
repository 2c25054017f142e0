"""Start-up of kvplan in a normal install beside the imports any such tool needs: python benchmarks/startup.py [VENV]

Without VENV, the wheel is built and installed with its dependencies into an environment that is removed afterwards: a
checkout would time what users do not have, data that is not kept parsed and a finder of editable installs. The two
commands run in turn, so that a machine whose speed drifts slows both; the figure is the median of the ratios. Figures:
benchmarks/NOTES.md.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMPORTS = ["-c", "import click, rich.console, rich.table, yaml, numpy"]
COMMANDS = {
    "estimate --json": ["estimate", "--model", "llama3.1-70b", "--context", "128k", "--json"],
    "estimate, one GPU": ["estimate", "--model", "llama3.1-70b", "--context", "128k", "--gpu", "h200", "--json"],
    "memory --json": ["memory", "--model", "llama3.1-70b", "--context", "128k", "--batch", "1", "--json"],
    "list models": ["list", "models", "--json"],
    "--help": ["--help"],
}
ROUNDS, AIM = 15, 1.5


def install(home: Path) -> Path:
    """Build the wheel and install it as a user would, with compiled modules."""
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin" / "python", "-m", "pip", "install", "-q", str(ROOT)], check=True)
    return home


def seconds(command: list[str]) -> tuple[float, float]:
    """Return a command's time by the clock, and of the processor. [s]"""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=tempfile.gettempdir())
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(home: Path) -> None:
    python = str(home / "bin" / "python")
    print(f"median of {ROUNDS} pairs; the aim of the first is at most {AIM}")
    print("command               wall ms   CPU ms   CPU ms of imports   ratio of wall times     ratio of CPU times")
    for name, words in COMMANDS.items():
        ours, theirs = [python, "-m", "kvplan", *words], [python, *IMPORTS]
        seconds(ours), seconds(theirs)
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
        mine, other = (
            [1e3 * statistics.median(pair[side][what] for pair in pairs) for what in (0, 1)] for side in (0, 1)
        )
        wall, used = (sorted(a[what] / b[what] for a, b in pairs) for what in (0, 1))
        spans = (f"{statistics.median(r):5.2f} ({r[0]:.2f} to {r[-1]:.2f})" for r in (wall, used))
        print(f"{name:20} {mine[0]:8.0f} {mine[1]:8.0f} {other[1]:19.0f}   ", "   ".join(spans))


def main() -> None:
    if len(sys.argv) > 1:
        compare(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(install(Path(folder, "venv")))


if __name__ == "__main__":
    main()
