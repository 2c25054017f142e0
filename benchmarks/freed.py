"""Whether what techniques drop is given back: the memory of a process after texts were read, by technique.

    python benchmarks/freed.py    # docs/compress.md, between its `measured: freed` marks (Linux)

Each technique runs in a process of its own, which reads 8 texts of 4,096 tokens with the shipped model.
"""

import subprocess
import sys
from pathlib import Path

TECHNIQUES = ("baseline", "h2o:10%", "streaming:4,400", "mhc:4x", "int4", "mhc:4x+h2o:10%")
SEQUENCES, TOKENS = 8, 4096


def resident() -> int:
    """Return the resident memory of this process. [B]"""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def one(technique: str) -> None:
    """Read the texts, and print what the process holds more than before, and what the cache says of itself."""
    import ctypes
    import gc

    import torch

    from kvplan.compress.caches import running
    from kvplan.compress.evaluation import EvaluationPlan, settings
    from kvplan.compress.models import load
    from kvplan.compress.scoring import Held, Reader

    torch.set_num_threads(1)
    loaded = load("recall")
    asked = EvaluationPlan(techniques=(technique,), tasks=(), lengths=())
    texts = torch.stack([p.text for p in loaded.language.passages("needle", TOKENS, SEQUENCES, 1, 0)])
    ready = settings(loaded, asked, technique)
    with running(loaded.model, loaded.spec, technique, ready) as under:
        Reader(under, Held()).read(texts[:, :64])  # what torch keeps for itself is there already
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = resident()
        cache = Reader(under, Held()).read(texts)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        print(resident() - before, cache.stored + cache.beside)


def main() -> None:
    """Run every technique in a process of its own, and write the table."""
    from measure_recall import ROOT, put

    from kvplan.units import show_bytes

    rows = ["| technique | process grew by | cache holds |", "|---|---|---|"]
    for technique in TECHNIQUES:
        words = [sys.executable, __file__, technique]
        out = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        rows.append(f"| {technique} | {show_bytes(int(out[0]))} | {show_bytes(int(out[1]))} |")
        print(rows[-1], flush=True)
    put(ROOT / "docs" / "compress.md", "freed", "\n".join(rows) + "\n")


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) > 1 else main()
