"""Engines by date: what releases before a change did that later ones do not, as sourced, dated terms."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log


@dataclass(frozen=True, kw_only=True)
class Era:
    """An engine before a release or a day; source and reason stand beside each."""

    name: str  #: what a fit calls all releases of it, '' where it does not tell them apart
    engine: str  #: its name in the catalogue
    before: tuple[int, ...]  #: the first release that is no longer of it
    day: str  #: of that release, YYYY-MM-DD
    launch: float = 0.0  #: the host's time to launch a kernel, without CUDA graphs [s]
    factors: Mapping[str, float] = field(default_factory=dict)  #: term of the serving model -> how many times as long


ERAS = (
    # CUDA graphs came with 0.2.7 (vllm-project/vllm#1926). A Llama 2 70B took at least 28 ms a step on H100 hosts and
    # 43 ms on A100 hosts whatever the tensor parallelism: some 900 launches and messages.
    Era(name="", engine="vllm", before=(0, 2, 7), day="2024-01-03", launch=22e-6),
    # the one-way all-reduce of vLLM and TensorRT-LLM replaced NCCL's ring for small messages at the turn of 2023
    Era(name="", engine="vllm", before=(0, 2, 7), day="2024-01-03", factors={"message": 3.0}),
    # 0.6.0 took the API server and scheduling out of the step (blog.vllm.ai, 2024-09-05: 62 % of a step was the host's)
    Era(name="", engine="vllm", before=(0, 6, 0), day="2024-09-04", factors={"step": 1.5, "sequence": 2.0}),
    # the V1 engine became the default with 0.8.0
    Era(name="vllm V0", engine="vllm", before=(0, 8, 0), day="2025-03-18", factors={"step": 3.0}),
    # the overlapped scheduler came with 0.4
    Era(name="sglang before 0.4", engine="sglang", before=(0, 4, 0), day="2024-12-04", factors={"step": 3.0}),
    # the C++ runtime of built engines, before the PyTorch backend became the default with 1.0
    Era(name="trtllm engines", engine="trtllm", before=(1, 0, 0), day="2025-09-24"),
)
#: how much longer hosts of older GPUs take for the same Python, against those of Hopper and later (28 and 43 ms above)
OLD_HOSTS = {"volta": 1.5, "turing": 1.5, "ampere": 1.5}


#: a day, of a time stamp too
DAY = re.compile(r"\b(20\d\d)([-/])(\d\d)(?:\2(\d\d))?(?=\b|T)|\b(20\d\d)(\d\d)(\d\d)(?=\b|T)")
#: a release's number: no part of it has more than nine digits, a suffix 18
NUMBER = re.compile(
    r"(?<![\d.])v?(\d{1,9}\.\d{1,9}(?:\.\d{1,9})?(?!\d)(?:\.?(?:rc|post|dev)\d{0,18})*)", re.IGNORECASE | re.ASCII
)
YEAR = re.compile(r"\b(20\d\d)\b")
#: a release as options write it: up to four numbers, none of more than nine digits, as in 0.19, v1.2.1, b6000
RELEASE = r"[a-z]?\d{1,9}(\.\d{1,9}){0,3}"


def as_numbers(release: str) -> tuple[int, ...]:
    """Return a release as numbers that compare: '0.21.1rc2' is (0, 21, 1), 'b1480' (1480,)."""
    match = re.match(RELEASE, release, re.ASCII)
    return tuple(int(part) for part in re.findall(r"\d+", match[0], re.ASCII)) if match else ()


def release_of(version: str) -> str:
    """Return a release as it is called in short: the number in an image's name, else what is written."""
    match = NUMBER.search(DAY.sub(" ", version))
    return match[1].lower() if match else version.strip()


def same_release(one: str, other: str) -> bool:
    """Return whether two names are of one release: 0.33 is 0.33.0, and no candidate of it (0.33.0rc1)."""
    one, other = release_of(one), release_of(other)
    return one == other or (bool(_plain(one)) and _plain(one) == _plain(other))


def _plain(release: str) -> str:
    """Return a release that is numbers alone without the zeros at its end, '' for any other."""
    match = re.fullmatch(r"v?(\d{1,9}(?:\.\d{1,9}){1,3})", release, re.ASCII)
    return re.sub(r"(\.0+)+$", "", match[1]) if match else ""


def numbers(version: str) -> tuple[int, ...]:
    """Return a release's numbers, () where it has none."""
    match = NUMBER.search(DAY.sub(" ", version))
    return tuple(int(n) for n in re.findall(r"\d+", match[1], re.ASCII)[:3]) if match else ()


def day_of(version: str) -> str:
    """Return the day a version names, as text that sorts; '' where it names none."""
    match = DAY.search(version)
    if match:
        year, month, day = (match[1], match[3], match[4]) if match[1] else (match[5], match[6], match[7])
        return f"{year}-{month}-{day or '15'}"
    year_only = YEAR.search(version)
    return f"{year_only[1]}-07-01" if year_only else ""


def eras_of(engine: str, version: str) -> tuple[Era, ...]:
    """Return the eras a release belongs to: by its number, else by the day it names; none where it names neither."""
    number, day = numbers(version), day_of(version)
    number = (*number, 0, 0)[:3] if number else ()  # 0.8 is 0.8.0
    return tuple(
        era
        for era in ERAS
        if era.engine == engine and ((number and number < era.before) or (not number and day and day < era.day))
    )


def era_of(engine: str, version: str) -> str:
    """Return the name a fit gives to a release's era, '' for the present one."""
    return next((era.name for era in eras_of(engine, version) if era.name), "")


def era_moves(engine: str, version: str) -> dict[str, float]:
    """Return how far an era's terms are from the present ones. [logarithm]"""
    moved: dict[str, float] = {}
    for era in eras_of(engine, version):
        for term, factor in era.factors.items():
            moved[term] = moved.get(term, 0.0) + log(factor)
    return moved


def launch_of(engine: str, version: str, architecture: str) -> float:
    """Return what a host takes to launch one kernel where no CUDA graph does. [s]"""
    launch = max((era.launch for era in eras_of(engine, version)), default=0.0)
    return launch * OLD_HOSTS.get(architecture, 1.0)
