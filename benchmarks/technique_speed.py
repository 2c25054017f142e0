"""How well published speeds of cache formats are predicted: `python benchmarks/technique_speed.py SPEED.csv`.

A row is a measured ratio of a decode step with a format over the one without (columns technique, model, gpu, context,
batch, metric, ratio). Rows of models or GPUs that the catalogue lacks, and of other metrics, are left out and counted.
"""

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from kvplan import catalog
from kvplan.api.sites import site
from kvplan.kv.replica import Parallel
from kvplan.planning.ratios import Ratio, step_ratio
from kvplan.planning.replica import case_of
from kvplan.planning.site import Query

DAY = "2026-11-24"
OUTPUT = 64
#: model of a row -> ours and the format of its weights; GPUs of a row -> ours and how many
MODELS = {
    "Qwen3.5-27B awq-int4": ("qwen3.5-27b", "int4"), "Qwen3.6-27B fp8-static": ("qwen3.5-27b", "fp8"),
    "Llama-3.1-8B": ("llama3.1-8b", None), "gpt-oss-20b": ("gpt-oss-20b", None), "Qwen3-4B": ("qwen3-4b", None),
    "Qwen3-30B-A3B": ("qwen3-30b-a3b", None),
}  # fmt: skip
GPUS = {"4x rtx3090": ("rtx-3090", 4), "h100": ("h100-sxm", 1), "2x h100": ("h100-sxm", 2)}
#: beginnings of a row's technique -> ours
NAMES = {
    "fp8": "fp8", "int8_per_token_head": "int8:token", "int4_per_token_head": "int4:token",
    "turboquant_4bit": "turboquant:4", "turboquant_3bit": "turboquant:3",
}  # fmt: skip


def predicted(row: Mapping[str, str]) -> tuple[str, Ratio] | None:
    """Return a row's technique and the ratio expected of it, None where it cannot be told."""
    name = next((ours for theirs, ours in NAMES.items() if row["technique"].startswith(theirs)), None)
    step = "ITL" in row["metric"] or "TPOT" in row["metric"]
    known = row["model"] in MODELS and row["gpu"] in GPUS and row["context"].isdigit() and row["batch"].isdigit()
    if name is None or not known or not step:
        return None
    (model, form), (gpu, tensor) = MODELS[row["model"]], GPUS[row["gpu"]]
    spec, parallel = catalog.model(model), Parallel(tensor=tensor)
    place = site(catalog.gpu(gpu), spec, DAY, parallel=parallel, weights=form)
    case = case_of(spec, Query(context=int(row["context"]) + OUTPUT, output=OUTPUT), place)
    return name, step_ratio(case, name, parallel, int(row["batch"]))


def compared(path: str) -> Iterator[tuple[str, float, Ratio]]:
    """Yield (technique, measured ratio, expected one) of the rows of a file."""
    left = 0
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found = predicted(row)
            if found is None:
                left += 1
                continue
            yield found[0], float(row["ratio"]), found[1]
    print(f"{left} rows are of other techniques, models, GPUs or metrics")


def main(path: str) -> None:
    """Print the median error and the share held by the 80 % interval, by technique and of all."""
    every: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for name, measured, ratio in compared(path):
        result = abs(ratio.middle / measured - 1), ratio.low <= measured <= ratio.high
        for key in (name, "all"):
            every[key].append(result)
    for name, results in sorted(every.items(), key=lambda item: item[0] == "all"):
        error, held = statistics.median(e for e, _ in results), sum(h for _, h in results) / len(results)
        print(f"{name}: {len(results)} rows, median error {error:.1%}, {held:.0%} held")


if __name__ == "__main__":
    main(*sys.argv[1:])
