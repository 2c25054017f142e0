"""What kvplan finds on this machine: its release, optional packages, GPUs and the age of its data; what is missing."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvplan import __version__, catalog
from kvplan.api import values
from kvplan.catalog.checkpoints.hub_files import cache
from kvplan.errors import KvplanError
from kvplan.measuring.device.present import Present, gpus, installed, required
from kvplan.planning.estimate import STALE
from kvplan.specs.money import age
from kvplan.units import show_count

#: extra -> (packages, what one can do with them)
EXTRAS = {
    "profile": (("torch", "triton", "nvidia-ml-py"), "measure this machine with kvplan profile"),
    "hf": (("torch", "transformers", "safetensors"), "run techniques on real models with kvplan evaluate"),
    "lm_eval": (
        ("lm_eval", "torch", "transformers", "safetensors"),
        "score compressed models on the tasks of EleutherAI's harness",
    ),
    "fast": (("numba",), "simulate traces of 50,000 requests and more in seconds"),
    "sweep": (("pyarrow",), "keep the answers of kvplan sweep"),
    "ray": (("ray", "pyarrow"), "run kvplan sweep on a Ray cluster"),
    "live": (("prometheus-client",), "watch a live server with kvplan watch"),
    "pandas": (("pandas",), "turn results into tables of pandas"),
    "svg": (("vl-convert-python",), "draw charts as SVG"),
    "hub": (("huggingface_hub",), "fetch the configs of models that are not shipped"),
    "prices": (("gpuhunt",), "renew cloud prices with kvplan prices"),
}

#: shelf -> what one entry of it is, and more about it
SHELVES = {
    "models": ("model", ""),
    "gpus": ("GPU", ""),
    "workloads": ("workload", ""),
    "engines": ("engine", ""),
    "calibrations": ("profile", " of a GPU's measured kernels"),
    "serving": ("profile", " of measured servers"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for."""

    topic: str  #: what it belongs to: kvplan, extras, GPUs or data
    name: str  #: what was looked for
    state: str  #: what was found, in words
    well: bool  #: whether nothing is missing
    advice: str = ""  #: what to type where something is, '' for nothing


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """All that was found, and the day on which prices have an age."""

    findings: tuple[Finding, ...]  #: in the order of a report
    day: str  #: as in 2026-11-24


def doctor(on: str | None = None) -> Doctor:
    """Return what this machine has and lacks for kvplan, on a day; nothing is measured and no connection is opened."""
    day = values.day(on)
    return Doctor(findings=(*program(), *extras(), *devices(gpus()), *data(day)), day=day)


def program() -> Iterator[Finding]:
    """Yield kvplan's and Python's releases."""
    from platform import machine, python_version, system

    yield Finding(topic="kvplan", name="kvplan", state=__version__, well=True)
    yield Finding(topic="kvplan", name="python", state=f"{python_version()} on {system()} {machine()}", well=True)


def extras() -> Iterator[Finding]:
    """Yield the optional packages by extra: what of each is missing or too old stands first."""
    for extra, (packages, use) in EXTRAS.items():
        state, well = state_of(packages, least(extra))
        advice = "" if well else f"to {use}: pip install 'kvplan[{extra}]'"
        yield Finding(topic="extras", name=extra, state=state, well=well, advice=advice)


def state_of(packages: Sequence[str], oldest: Mapping[str, str]) -> tuple[str, bool]:
    """Return which packages are missing, too old and installed, in words, and whether all are there and new enough."""
    releases = {name: installed(name) for name in packages}
    absent = [name for name, release in releases.items() if release is None]
    if len(absent) == len(packages):
        return "not installed", False
    there = {name: release for name, release in releases.items() if release}
    old = {name: release for name, release in there.items() if older(release, oldest.get(name, ""))}
    parts = [f"{', '.join(absent)} not installed"] * bool(absent)
    parts += [f"{name} {release} is older than {oldest[name]}" for name, release in old.items()]
    parts += [", ".join(f"{name} {release}" for name, release in there.items() if name not in old)]
    return "; ".join(filter(None, parts)), not (absent or old)


def least(extra: str) -> dict[str, str]:
    """Return package -> the oldest release that an extra of kvplan's own metadata takes, where it says one."""
    name = extra.replace("_", "-")
    lines = (line.partition("; extra == ") for line in required("kvplan"))
    bounds = (re.match(r"([\w.-]+).*?>=([\w.]+)", what) for what, _, of in lines if of.strip("\"'") == name)
    return {bound[1]: bound[2] for bound in bounds if bound}


def older(release: str, bound: str) -> bool:
    """Return whether a release comes before another."""
    figures = ([int(part) for part in re.findall(r"\d+", text)[:3]] for text in (release, bound))
    here, there = ([*found, *[0] * (3 - len(found))] for found in figures)
    return here < there


def devices(present: Present) -> Iterator[Finding]:
    """Yield this machine's GPUs and what kvplan knows of each."""
    if present.reason:
        yield Finding(topic="GPUs", name="GPUs", state=f"none: {present.reason}", well=True)
        return
    yield Finding(topic="GPUs", name="driver", state=present.driver, well=True)
    for name, count in Counter(present.names).items():
        try:
            gpu = catalog.gpu(name)
        except KvplanError:
            advice = "describe it in a YAML file (docs/files.md), or measure it: kvplan profile -o mine.yaml"
            yield Finding(topic="GPUs", name=f"{count}x {name}", state="not on the shelf", well=False, advice=advice)
            continue
        shipped = gpu.name in catalog.names("calibrations")
        state = f"known as {gpu.name}; its kernels were {'measured elsewhere' if shipped else 'never measured'}"
        advice = "measure it in two minutes: kvplan profile -o mine.yaml"
        yield Finding(topic="GPUs", name=f"{count}x {name}", state=state, well=True, advice=advice)


def data(day: str) -> Iterator[Finding]:
    """Yield what is shipped, the age of prices, and the cache of the Hugging Face hub."""
    counts = ", ".join(show_count(len(catalog.names(shelf)), noun) + more for shelf, (noun, more) in SHELVES.items())
    yield Finding(topic="data", name="shelves", state=counts, well=True)
    ages = sorted(age(p, day) or 0 for p in catalog.prices() if p.current(day) and p.term == "on-demand")
    if ages:
        old = sum(days > STALE for days in ages)
        state = f"{len(ages)} on-demand prices, last seen {ages[0]} to {ages[-1]} days ago, half within "
        state += f"{ages[len(ages) // 2]} days; {old} are older than {STALE} days"
        advice = "kvplan prices can renew them, or give prices of your own to every plan (docs/money.md)" if old else ""
        yield Finding(topic="data", name="prices", state=state, well=not old, advice=advice)
    else:
        yield Finding(topic="data", name="prices", state="none on this day", well=False)
    folder = cache()
    there = folder.is_dir()
    state = f"{folder}" if there else f"none at {folder}"
    yield Finding(topic="data", name="hub cache", state=state, well=True)
