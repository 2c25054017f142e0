"""How well published speeds of cache formats are predicted: `python benchmarks/technique_speed.py SPEED.csv...`.

A row is a measured ratio of a step with a format over the one without (columns technique, model, gpu, engine_version,
context, batch, metric, ratio, source, note). Rows of models or GPUs that the catalogue lacks, and of other metrics, are
left out and counted. `technique_speeds.csv` beside this file holds rows read from public threads.

Then whole techniques, engines and sources are left out: what unpacking takes is fitted again to the rows that remain,
by one factor, or taken from the format most like it where none remain.
"""

import csv
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from pathlib import Path

from kvplan import catalog
from kvplan.api.sites import site
from kvplan.kv import spelling
from kvplan.kv.layout import Group, KVLayout
from kvplan.kv.replica import Parallel
from kvplan.kv.speeds import UNMEASURED
from kvplan.kv.techniques.bits import unpacking
from kvplan.planning.ratios import Ratio, ratio_of
from kvplan.planning.replica import Case, at_load, case_of
from kvplan.planning.site import Query

DAY = "2026-11-24"
OUTPUT = 64
#: tokens of an answer in runs whose steps read other prompts as well
ANSWER = 128
#: model of a row -> ours and the format of its weights; GPUs of a row -> ours and how many
MODELS = {
    "Qwen3.5-27B awq-int4": ("qwen3.5-27b", "int4"), "Qwen3.6-27B fp8-static": ("qwen3.5-27b", "fp8"),
    "Qwen3.8-27B 3.4-bit": ("qwen3.5-27b", "int4"), "Llama-3.1-8B": ("llama3.1-8b", None),
    "Llama-3.1-8B bf16": ("llama3.1-8b", None), "gpt-oss-20b": ("gpt-oss-20b", None), "Qwen3-4B": ("qwen3-4b", None),
    "Qwen3-8B": ("qwen3-8b", None), "Qwen3-1.7B": ("qwen3-1.7b", None), "Qwen2.5-0.5B": ("qwen2.5-0.5b", None),
    "llama-13b": ("llama-13b", None), "Qwen3-30B-A3B": ("qwen3-30b-a3b", None),
}  # fmt: skip
GPUS = {
    "4x rtx3090": ("rtx-3090", 4), "1x rtx3090": ("rtx-3090", 1), "h100": ("h100-sxm", 1), "2x h100": ("h100-sxm", 2),
    "h100-pcie": ("h100-pcie", 1), "a100-40gb": ("a100-40gb-sxm", 1), "a100-80gb": ("a100-80gb-sxm", 1),
    "a100_80gb": ("a100-80gb-sxm", 1), "a800": ("a800", 1),
}  # fmt: skip
#: beginnings of a row's technique -> ours
NAMES = {
    "fp8": "fp8", "int8_per_token_head": "int8:token", "int4_per_token_head": "int4:token", "q8_0": "int8",
    "int8 KV": "int8", "turboquant_4bit": "turboquant:4", "turboquant_3bit": "turboquant:3",
    "knorm press r=0.5": "snapkv:50%",
}  # fmt: skip
#: what a format is taken for where nothing of it was measured
LIKE = {"turboquant:3": "turboquant:4", "turboquant:4": "turboquant:3", "int8:token": "int8", "int8": "int8:token"}
#: factors on what unpacking takes that are tried
FACTORS = [1.1**n for n in range(-16, 17)]


@dataclass(frozen=True)
class Measured:
    """One published ratio, and what predicts it."""

    technique: str
    engine: str
    source: str
    ratio: float
    case: Case
    parallel: Parallel
    batch: int
    prompts: bool  #: whether steps read other prompts as well
    slope: bool  #: whether the ratio is of what a token of context adds to a step

    @cached_property
    def layout(self) -> KVLayout:
        """The cache under the technique."""
        return spelling.apply(self.technique, self.case.base).with_prompt(self.case.query.prompt)

    def predicted(self, factor: float = 1.0, like: str = "") -> Ratio:
        """Return the ratio expected with what unpacking takes times a factor, or as of another format."""
        speed = spelling.speeds(like)[0] if spelling.speeds(like) else None

        def change(g: Group) -> Group:
            if speed is not None and g.bits < 16:
                return replace(g, unpacks=unpacking(g, speed))
            u = g.unpacks
            return replace(g, unpacks=replace(u, work=u.work * factor, lag=u.lag * factor))

        layout = self.layout.each(change)
        known = UNMEASURED if like else None
        if self.slope:
            return self.sloped(layout, known)
        found = ratio_of(self.case, self.technique, layout, self.parallel, self.batch, known=known)
        if not self.prompts:
            return found
        mine, plain = (
            at_load(self.case, each, self.parallel, self.batch, self.batch).served.tpot
            for each in (layout, self.case.base)
        )
        shift = float(mine / plain) / found.middle
        return replace(found, middle=found.middle * shift, low=found.low * shift, high=found.high * shift)

    def sloped(self, layout: KVLayout, known: tuple[float, float] | None) -> Ratio:
        """Return the ratio of what a token of context adds, between a thousand tokens and all."""
        short = replace(self.case, query=Query(context=1024 + OUTPUT, output=OUTPUT))
        both = [ratio_of(c, self.technique, layout, self.parallel, 1, known=known) for c in (self.case, short)]
        long, near = both
        grown = long.plain - near.plain
        middle, low, high = (
            (getattr(long, name) * long.plain - getattr(near, name) * near.plain) / grown
            for name in ("middle", "low", "high")
        )
        return replace(long, middle=middle, low=low, high=high)


def read(row: Mapping[str, str]) -> Measured | None:
    """Return a row, None where it cannot be told."""
    name = next((ours for theirs, ours in NAMES.items() if row["technique"].startswith(theirs)), None)
    slope = "slope" in row["metric"]
    step = any(word in row["metric"] for word in ("ITL", "TPOT", "decode step")) and "intercept" not in row["metric"]
    context = "131072" if slope else row["context"]
    known = row["model"] in MODELS and row["gpu"] in GPUS and context.isdigit() and row["batch"].isdigit()
    # kernels before their release, and steps that the host's launches fill, are not what a server takes today
    other = "as first merged" in row["technique"] or "eager, so" in row["note"]
    if name is None or not known or not step or other:
        return None
    (model, form), (gpu, tensor) = MODELS[row["model"]], GPUS[row["gpu"]]
    spec, parallel, batch = catalog.model(model), Parallel(tensor=tensor), int(row["batch"])
    prompts = batch > 1 and "TPOT" in row["metric"] and "decode alone" not in row["note"]
    output = ANSWER if prompts else OUTPUT
    place = site(catalog.gpu(gpu), spec, DAY, parallel=parallel, weights=form)
    case = case_of(spec, Query(context=int(context) + output, output=output), place)
    engine, source = row["engine_version"].split()[0], row["source"].split("#")[0]
    return Measured(name, engine, source, float(row["ratio"]), case, parallel, batch, prompts, slope)


def fitted(rows: Iterable[Measured]) -> float | None:
    """Return the factor on what unpacking takes that fits rows best, None where there are none."""
    known = list(rows)
    if not known:
        return None
    return min(FACTORS, key=lambda f: sum(log(r.predicted(f).middle / r.ratio) ** 2 for r in known))


def judged(row: Measured, ratio: Ratio) -> tuple[float, bool]:
    """Return the error of a prediction, and whether its interval holds what was measured."""
    return abs(ratio.middle / row.ratio - 1), ratio.low <= row.ratio <= ratio.high


def left_out(rows: list[Measured], key: Callable[[Measured], str]) -> list[tuple[float, bool]]:
    """Return how every row is predicted without the rows alike in `key`."""
    results = []
    for group in dict.fromkeys(map(key, rows)):
        rest = [r for r in rows if key(r) != group]
        out = [r for r in rows if key(r) == group]
        for name in dict.fromkeys(r.technique for r in out):
            factor = fitted(r for r in rest if r.technique == name)
            like = "" if factor is not None else LIKE.get(name, "none")
            results += [judged(r, r.predicted(factor or 1.0, like)) for r in out if r.technique == name]
    return results


def line(name: str, results: list[tuple[float, bool]]) -> str:
    """Return the median error and the share held."""
    error, held = statistics.median(e for e, _ in results), sum(h for _, h in results) / len(results)
    return f"{name}: {len(results)} rows, median error {error:.1%}, {held:.0%} held"


def main(*paths: str) -> None:
    """Print the median error and the share held by the 80 % interval: by technique, of all, and left out."""
    every = []
    for path in paths or (str(Path(__file__).with_name("technique_speeds.csv")),):
        with Path(path).open(encoding="utf-8", newline="") as file:
            every += [read(row) for row in csv.DictReader(file)]
    rows = [row for row in every if row is not None]
    print(f"{len(every) - len(rows)} of {len(every)} rows are of other techniques, models, GPUs or metrics")
    told = [(row, judged(row, row.predicted())) for row in rows]
    for name in dict.fromkeys(row.technique for row in rows):
        print(line(name, [result for row, result in told if row.technique == name]))
    for name in dict.fromkeys(row.source for row in rows):
        print(line(f"  {name[:70]}", [result for row, result in told if row.source == name]))
    print(line("all", [result for _, result in told]))
    for name in ("technique", "engine", "source"):
        print(line(f"without the {name}", left_out(rows, lambda row, name=name: getattr(row, name))))


if __name__ == "__main__":
    main(*sys.argv[1:])
