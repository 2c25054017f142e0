"""End-to-end rows made from a known serving profile, as a file of measurements holds them."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from math import log
from pathlib import Path

from kvplan import catalog
from kvplan.measuring.serving.predict import PredictedRow, predict
from kvplan.measuring.serving.reading import read_server
from kvplan.measuring.serving.rows import ServerRow
from kvplan.specs.serving_profile import ServingProfile

Entry = dict[str, str]
LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
LOADS = (1, 8, 64, 256)


def entries(
    model: str, gpu: str, engine: str, tp: Iterable[int] = (1,), loads: Iterable[int] = LOADS, **more: str
) -> list[Entry]:
    """Return rows of one model on one server, without times."""
    said = {"model": model, "gpu": gpu, "engine": engine, "engine_version": "1.0", **more}
    return [
        {**said, "isl": str(i), "osl": str(o), "concurrency": str(c), "tp": str(n)}
        for n, (i, o), c in product(tp, LENGTHS, loads)
    ]


def moved(level: str, who: str, **factors: float) -> ServingProfile:
    """Return the shipped profile with factors of its own for a GPU, an engine, a server or a version."""
    shipped = catalog.serving_profile()
    moves = {**shipped.moves, level: {**shipped.moves.get(level, {}), who: {n: log(f) for n, f in factors.items()}}}
    return replace(shipped, moves=moves)


def servers(rows: Iterable[Mapping[str, str]], measured: bool = True) -> list[ServerRow]:
    found = [read_server(row, n, catalog.model, catalog.gpu, measured) for n, row in enumerate(rows, 2)]
    assert all(isinstance(row, ServerRow) for row in found), found
    return [row for row in found if isinstance(row, ServerRow)]


def timed(rows: Iterable[Mapping[str, str]], profile: ServingProfile) -> list[Entry]:
    """Return rows with the times a profile gives them."""
    rows = [dict(row) for row in rows]
    found = predict(servers(rows, measured=False), profile, catalog.engine())
    assert all(isinstance(p, PredictedRow) for p in found)
    return [
        {**row, "ttft_ms": f"{p.ttft * 1e3:.6g}", "tpot_ms": f"{p.tpot * 1e3:.6g}"}
        for row, p in zip(rows, found, strict=True)
        if isinstance(p, PredictedRow)
    ]


def write(path: Path, rows: list[Entry]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    return path


def read(path: Path) -> list[Entry]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))
