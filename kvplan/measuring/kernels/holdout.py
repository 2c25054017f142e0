"""Leaving rows out on purpose: at random, the largest shapes, unseen head counts; and predicting them from the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from zlib import crc32

from kvplan.measuring.kernels.fit import Progress, fit
from kvplan.measuring.kernels.rows import KernelRow
from kvplan.measuring.residuals import Residuals, summary
from kvplan.perf.kernel_profile import Kernel, KernelProfile, Prediction, Predictor, part_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.source import Source

Sizes = Mapping[str, int]

#: one row in so many is left out at random
ONE_IN = 5
#: rows left out of the fit, by kind
HOLDOUTS: dict[str, dict[str, Callable[[Sizes], bool]]] = {
    "gemm": {"m from 8192": lambda s: s["m"] >= 8192, "n from 16384": lambda s: s["n"] >= 16384},
    "decode_attention": {
        "kv_len from 65536": lambda s: s["kv_len"] >= 65536,
        "batch from 512": lambda s: s["batch"] >= 512,
        "48 and 64 heads": lambda s: s["q_heads"] in (48, 64),
        "40 heads": lambda s: s["q_heads"] == 40,
    },
    "mla_decode_attention": {
        "kv_len from 65536": lambda s: s["kv_len"] >= 65536,
        "4 and 32 heads": lambda s: s["q_heads"] in (4, 32),
        "128 heads": lambda s: s["q_heads"] == 128,
    },
    "prefill_attention": {
        "isl from 8192": lambda s: s["isl"] >= 8192,
        "batch from 64": lambda s: s["batch"] >= 64,
        "64 heads": lambda s: s["q_heads"] == 64,
    },
    "all_reduce": {"message from 2^27": lambda s: s["message_size"] >= 2**27},
}


def picked(row: KernelRow) -> bool:
    """Say whether a row is among those left out at random: always the same ones."""
    s = row.shape
    return crc32(f"{s.gpu} {s.version} {s.key} {sorted(s.sizes.items())}".encode()) % ONE_IN == 0


def judged(row: KernelRow, gpus: Callable[[str], Gpu]) -> bool:
    """Say whether a row counts: a cache that partly stays in the L2 does not."""
    return part_of(row.shape, gpus(row.shape.gpu)) not in ("l2", "multi_head_l2")


def predicted(
    kept: Sequence[KernelRow], left: Sequence[KernelRow], gpus: Callable[[str], Gpu], progress: Progress | None = None
) -> list[tuple[KernelRow, Prediction]]:
    """Return the rows left out with their predictions by a fit to the others; none when these are too few."""
    tree: dict[str, dict[str, dict[str, dict[str, Kernel]]]] = {}
    for (gpu, engine, kind, key), version, parts in fit(kept, gpus, progress):
        place = tree.setdefault(gpu, {}).setdefault(engine, {}).setdefault(kind, {})
        place[key] = Kernel(version=version, parts=parts)
    if not tree:
        return []
    source = Source(kind="measured", ref="rows of the same file", date="")
    profile = KernelProfile(name="held out", title="", tier="measured elsewhere", source=source, kernels=tree)
    oracle = Predictor([profile], gpus)
    return [(row, oracle.predict(row.shape)) for row in left]


def checks(
    rows: Sequence[KernelRow], gpus: Callable[[str], Gpu], progress: Progress | None = None
) -> Iterator[tuple[str, list[Residuals]]]:
    """Yield what was left out and the errors on it, by kind, GPU and engine, all rows last."""
    kinds = sorted({row.shape.kind for row in rows})
    for kind in kinds:
        mine = [row for row in rows if row.shape.kind == kind]
        yield from _checks_of(kind, mine, gpus, progress)


def _checks_of(
    kind: str, rows: Sequence[KernelRow], gpus: Callable[[str], Gpu], progress: Progress | None
) -> Iterator[tuple[str, list[Residuals]]]:
    tests: dict[str, Callable[[KernelRow], bool]] = {f"one row in {ONE_IN}": picked}
    for name, test in HOLDOUTS[kind].items():
        tests[name] = lambda row, test=test: test(row.shape.sizes)  # type: ignore[misc]
    for name, out in tests.items():
        left = [row for row in rows if out(row) and judged(row, gpus)]
        if left:
            pairs = predicted([row for row in rows if not out(row)], left, gpus, progress)
            if pairs:
                yield f"{kind}: {name}", grouped(pairs)


def grouped(pairs: Sequence[tuple[KernelRow, Prediction]]) -> list[Residuals]:
    """Return errors by GPU, engine and dtype, all rows last."""
    groups: dict[tuple[str, ...], list[tuple[KernelRow, Prediction]]] = {}
    for row, prediction in pairs:
        s = row.shape
        groups.setdefault((s.gpu, s.engine, "", s.dtypes[-1]), []).append((row, prediction))
    return [*(summary(g, groups[g]) for g in sorted(groups)), summary(("all", "", "", ""), pairs)]
