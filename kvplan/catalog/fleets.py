"""Reading a fleet file: the workloads to serve, and the GPUs that can be had."""

from dataclasses import replace
from typing import Any

from kvplan import catalog
from kvplan.catalog.fields import (
    ValueRange,
    count,
    duration,
    known_fields,
    listed,
    mapping,
    named,
    number,
    percentile,
    rent,
    share,
    text,
)
from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path
from kvplan.catalog.workloads import workload
from kvplan.errors import SpecError, shown
from kvplan.specs.fleet import FleetFile, Job, Stock
from kvplan.specs.workload import Slo, Workload
from kvplan.units import DAY

FIELDS = ("name", "gpus", "workloads", "buckets")
STOCK = ("count", "price")
JOB = ("name", "workload", "model", "queries_per_day", "rate", "ttft", "tpot", "e2e", "percentile", "max_quality_drop")
EXAMPLE = "{workload: chat, model: llama3.1-8b, queries_per_day: 400,000, ttft: 1s}"
#: buckets of input length where the file does not say
BUCKETS = 4
#: buckets beyond which columns multiply and nothing is gained; jobs that one plan is asked for; GPUs of one type
MOST_BUCKETS, MOST_JOBS, MOST_GPUS = 8, 32, 1e6
#: no fleet is planned for less than half of its queries in time
MEDIAN = 0.5
#: what a fleet may be asked [1/s], [1/d]
RATE, VOLUME = ValueRange(open=True, most=1e7), ValueRange(open=True, most=1e11)


def fleet(word: str) -> FleetFile:
    """Return a fleet by its YAML file; raise SpecError, UnknownName."""
    path = as_path(word)
    if path is None or path.is_dir():
        raise SpecError(f"{word}: no such file; a fleet is a YAML file of yours, as in ./fleet.yaml")
    where = path.name
    raw = read_yaml(read_text(path, where), where, typed=False)
    known_fields(raw, FIELDS, where, "fleet")
    gpus = mapping(raw.get("gpus"), f"{where}: gpus", "{h100: 32, h200: 8}")
    jobs = listed(raw.get("workloads"), f"{where}: workloads", f"[{EXAMPLE}]", fewest=1)
    if len(jobs) > MOST_JOBS:
        raise SpecError(f"{where}: workloads: expected a list of 1 to {MOST_JOBS}, got {len(jobs)}")
    return FleetFile(
        name=text(raw, "name", where, path.stem),
        stocks=_stocks(gpus, f"{where}: gpus"),
        jobs=_jobs(jobs, where),
        buckets=count(raw.get("buckets", str(BUCKETS)), f"{where}: buckets", ValueRange(1, MOST_BUCKETS)),
    )


def _stocks(raw: Document, where: str) -> tuple[Stock, ...]:
    found: dict[str, Stock] = {}
    for word, value in raw.items():
        place = f"{where}: {word}"
        given = value if isinstance(value, dict) else {"count": value}
        known_fields(given, STOCK, place)
        gpu = named(catalog.gpu, word, where)
        if given.get("count") == "0":
            raise SpecError(f"{place}: count: leave out a GPU of which there is none")
        had = count(given.get("count"), f"{place}: count", ValueRange(1, MOST_GPUS), "8")
        price = rent(given["price"], f"{place}: price") if "price" in given else None
        if gpu.name in found:
            raise SpecError(f"{place}: {gpu.name} stands twice under two names; write it once")
        found[gpu.name] = Stock(gpu=gpu, count=had, price=price)
    if not found:
        raise SpecError(f"{where}: no GPU is listed; write what can be had, as in {{h100: 32, h200: 8}}")
    return tuple(found.values())


def _jobs(raw: list[Any], where: str) -> tuple[Job, ...]:
    found: dict[str, Job] = {}
    for n, entry in enumerate(raw, 1):
        job = _job(entry, f"{where}: workload {n}")
        if job.name in found:
            raise SpecError(f"{where}: workload {n}: {shown(job.name)} stands twice; give each a name of its own")
        found[job.name] = job
    return tuple(found.values())


def _job(raw: object, where: str) -> Job:
    given = mapping(raw, where, EXAMPLE)
    known_fields(given, JOB, where)
    asked = named(workload, text(given, "workload", where, example=EXAMPLE), where)
    drop = given.get("max_quality_drop")
    return Job(
        name=text(given, "name", where, asked.name),
        workload=replace(_volume(asked, given, where), slo=_slo(asked.slo, given, where)),
        model=named(catalog.model, text(given, "model", where, example=EXAMPLE), where),
        quality=None if drop is None else share(drop, f"{where}: max_quality_drop", ValueRange(0, 1, below=True), "1%"),
    )


def _volume(asked: Workload, given: Document, where: str) -> Workload:
    if "queries_per_day" in given and "rate" in given:
        raise SpecError(f"{where}: write queries_per_day or rate, not both")
    if "rate" in given:
        volume = DAY * number(given["rate"], f"{where}: rate", RATE)
    elif "queries_per_day" in given:
        volume = number(given["queries_per_day"], f"{where}: queries_per_day", VOLUME)
    else:
        return asked
    return replace(asked, arrivals=replace(asked.arrivals, queries_per_day=volume))


def _slo(usual: Slo, given: Document, where: str) -> Slo:
    """Return the file's limits, the workload's where the file is silent."""
    limits = {
        k: duration(given[k], f"{where}: {k}") if k in given else getattr(usual, k) for k in ("ttft", "tpot", "e2e")
    }
    part = given.get("percentile")
    return Slo(
        **limits,
        percentile=usual.percentile if part is None else percentile(part, f"{where}: percentile", MEDIAN),
    )
