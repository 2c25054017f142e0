"""Start-up of `kvplan estimate ... --json` beside the imports any such tool needs: python benchmarks/startup.py

The two commands run in turn, so that a machine whose speed drifts slows both; the figure is the median of the ratios.
"""

import statistics
import subprocess
import sys
import time

OURS = [sys.executable, "-m", "kvplan", "estimate", "--model", "llama3-70b", "--context", "128k", "--json"]
IMPORTS = [sys.executable, "-c", "import click, rich.console, rich.table, yaml, numpy"]
ROUNDS = 15


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    seconds(OURS), seconds(IMPORTS)
    pairs = [(seconds(OURS), seconds(IMPORTS)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in pairs)
    ours, imports = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"kvplan estimate --json  {ours * 1e3:6.0f} ms (median of {ROUNDS})")
    print(f"imports                 {imports * 1e3:6.0f} ms")
    print(
        f"ratio                   {statistics.median(ratios):6.2f}    ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
        "the aim is at most 1.5"
    )


if __name__ == "__main__":
    main()
