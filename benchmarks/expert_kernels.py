"""What kernels of routed experts reach: `python benchmarks/expert_kernels.py KERNELS.csv`.

One row is one layer's experts on one GPU: gpu, engine, format (`16 bits`, `8 bits`, `4 bits`), tokens, hidden, inter
(width of an expert), topk, experts, tp, ep, latency [ms]. Tokens are those of all ranks; experts are gated. By
architecture, engine and format it prints the share of the memory bandwidth where few tokens come, and of the matrix
rate where many do, as kvplan counts bytes and FLOPs, each beside what the shipped profile has for servers there.
"""

import csv
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from kvplan import catalog
from kvplan.kv.replica import Parallel
from kvplan.perf.matrices import Matrices
from kvplan.perf.operators import routed
from kvplan.specs.hardware import Gpu
from kvplan.specs.identity import Identity, number_format
from kvplan.specs.serving_profile import ServingProfile

#: tokens up to which weights are what is waited for, and from which products are
FEW, MANY = 16, 4096
#: format -> bits that a weight takes, scales included
BITS = {"16 bits": 16.0, "8 bits": 8.0, "4 bits": 4.5}


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a kernel took from its GPU, of the datasheet's figures."""

    who: tuple[str, str, str]  #: architecture, engine, number format
    tokens: float  #: of all ranks [token]
    bandwidth: float  #: share of the memory bandwidth
    rate: float  #: share of the matrix rate


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Medians of kernels alike, and the same of servers in a profile."""

    who: tuple[str, str, str]  #: architecture, engine, number format
    kernels: int  #: how many kernels
    bandwidth: float | None  #: their share of the memory bandwidth at few tokens
    rate: float | None  #: their share of the matrix rate at many
    served_bandwidth: float  #: the profile's share of the bandwidth
    served_rate: float  #: the profile's share of the matrix rate


def reached(row: Mapping[str, str], gpu: Gpu) -> Reached:
    """Return what one kernel reached; the launch of its parts is in its time."""
    experts, used, bits = int(row["experts"]), float(row["topk"]), BITS[row["format"]]
    parameters = 3.0 * int(row["hidden"]) * int(row["inter"]) * experts
    matrices = Matrices(
        part="experts", split="expert", copies=experts, used=used, bits=bits, bytes=parameters * bits / 8,
        parameters=parameters,
    )  # fmt: skip
    parallel = Parallel(tensor=int(row["tp"]) * int(row["ep"]), expert=int(row["ep"]))
    tokens, seconds = float(row["tokens"]), float(row["latency"]) / 1e3
    moved, work = routed(matrices, parallel, tokens)
    who = (gpu.architecture, row["engine"], number_format(gpu, bits))
    return Reached(
        who=who, tokens=tokens, bandwidth=moved / seconds / gpu.bandwidth, rate=work / seconds / peak(gpu, bits)
    )


def peak(gpu: Gpu, bits: float) -> float:
    """Return the matrix rate at which a GPU multiplies such weights. [FLOP/s]"""
    narrow = {"16 bits": None, "8 bits": gpu.fp8, "4 bits": gpu.fp4}[number_format(gpu, bits).partition(",")[0]]
    return narrow or gpu.wide


def served(profile: ServingProfile, gpu: Gpu, who: tuple[str, str, str]) -> tuple[float, float]:
    """Return shares of bandwidth and matrix rate that a profile has for experts of a model nobody measured."""
    architecture, engine, written = who
    v = profile.values(
        Identity(gpu=gpu.name, engine=engine, architecture=architecture, vendor=gpu.vendor, number_format=written)
    )
    width, _, unpacked = written.partition(",")
    digit = {"16 bits": "", "8 bits": "8", "4 bits": "4"}[width]
    narrow = v[f"weights{digit}"] if digit else 1.0
    rate = v["rate16"] if unpacked or not digit else v[f"rate{digit}"]
    return v["weights"] * narrow * (v["emulated"] if unpacked else 1.0) * v["experts"], rate * v["experts_rate"]


def beside(rows: Iterable[Mapping[str, str]], profile: ServingProfile) -> list[Beside]:
    """Return kernels beside servers, by architecture, engine and number format."""
    groups: dict[tuple[str, str, str], list[Reached]] = {}
    gpus: dict[str, Gpu] = {}
    named: dict[str, Gpu] = {}
    for row in rows:
        if row["gpu"] not in named:
            named[row["gpu"]] = catalog.gpu(row["gpu"])
        gpu = named[row["gpu"]]
        one = reached(row, gpu)
        gpus.setdefault(gpu.architecture, gpu)
        groups.setdefault(one.who, []).append(one)
    found = []
    for who, each in sorted(groups.items()):
        few = [r.bandwidth for r in each if r.tokens <= FEW]
        many = [r.rate for r in each if r.tokens >= MANY]
        share, rate = served(profile, gpus[who[0]], who)
        found.append(
            Beside(
                who=who,
                kernels=len(each),
                bandwidth=median(few) if few else None,
                rate=median(many) if many else None,
                served_bandwidth=share,
                served_rate=rate,
            )
        )
    return found


def percent(share: float | None) -> str:
    """Return a share in words, '-' where there is none."""
    return "-" if share is None else f"{100 * share:.0f} %"


def main(path: str) -> None:
    """Print one line for each architecture, engine and number format."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        found = beside(csv.DictReader(file), catalog.serving_profile())
    print("architecture, engine, format | kernels | bandwidth, kernels and servers | rate, kernels and servers")
    for b in found:
        shares = (percent(s) for s in (b.bandwidth, b.served_bandwidth, b.rate, b.served_rate))
        print(", ".join(b.who), "|", b.kernels, "| {} {} | {} {}".format(*shares))


if __name__ == "__main__":
    main(sys.argv[1])
