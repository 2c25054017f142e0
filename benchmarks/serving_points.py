"""Compare the datasheet tier with published serving points: python benchmarks/serving_points.py ROWS.csv

Rows: model, gpu, engine, precision, gemm_quant, isl, osl, concurrency, tp, pp, attention_dp, tpot_ms (means of a closed
loop at fixed concurrency).
Prints measured over predicted TPOT: the figures behind `spread` in profiles/calibrations/datasheet.yaml.
"""

import csv
import statistics
import sys
from collections import defaultdict
from math import ceil
from pathlib import Path

from kvplan.errors import KvplanError
from kvplan.kv.budget import Parallel, weights
from kvplan.kv.layout import kv_layout
from kvplan.perf.operators import decode_step, prefill, total_time
from kvplan.planning.estimate import default_kv_bits
from kvplan.specs import catalog

FORMATS = {
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "bf16": "bf16",
    "int4_wo": "int4",
    "int4": "int4",
}
#: lengths are drawn between 80 % and 100 % of the nominal ones
MEAN_LENGTH = 0.9


def predicted(row: dict[str, str]) -> float:
    """Return the TPOT of one row: a decode step of the whole batch and its share of prefills. [s]"""
    model, gpu = catalog.model(row["model"]), catalog.gpu(row["gpu"])
    form = None if model.name.startswith("gpt-oss") else FORMATS.get(row["gemm_quant"] or row["precision"])
    tensor, pipeline, data = (max(1, int(float(row[key] or 1))) for key in ("tp", "pp", "attention_dp"))
    shape = Parallel(tensor=tensor, pipeline=pipeline, data=data)
    layout, held, c = kv_layout(model, default_kv_bits(model)), weights(model, form), catalog.datasheet_calibration(gpu)
    prompt, output = int(float(row["isl"]) * MEAN_LENGTH), float(row["osl"]) * MEAN_LENGTH
    batch = float(row["concurrency"])
    before = total_time(prefill(model, layout, layout, held, shape, tokens=prompt, chunk=8192), c, ceil(prompt / 8192))
    step = decode_step(model, layout, held, shape, batch=batch, length=int(prompt + output / 2))
    return total_time(step, c) + batch / output * before / (pipeline * data)


def main() -> None:
    ratios: dict[str, list[float]] = defaultdict(list)
    refused: dict[str, int] = defaultdict(int)
    with Path(sys.argv[1]).open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                ratio = float(row["tpot_ms"]) / 1e3 / predicted(row)
            except KvplanError as error:
                refused[str(error)] += 1
                continue
            for key in ("all", f"{row['gpu']} {row['engine']}", row["model"]):
                ratios[key].append(ratio)
    print(f"{'measured / predicted TPOT':40} {'n':>5} {'P10':>6} {'median':>6} {'P90':>6} {'median error':>12}")
    for key, found in ratios.items():
        tenths = statistics.quantiles(found, n=10) if len(found) > 1 else found * 9
        error = statistics.median(abs(1 / r - 1) for r in found)
        print(
            f"{key:40} {len(found):5} {tenths[0]:6.2f} {statistics.median(found):6.2f} {tenths[8]:6.2f} {error:12.0%}"
        )
    for reason, count in refused.items():
        print(f"not predicted: {count} rows: {reason}")


if __name__ == "__main__":
    main()
