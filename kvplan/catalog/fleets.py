"""Reading a fleet file: the workloads to serve, and the GPUs that can be had."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvplan.catalog.checkpoints.models import model
from kvplan.catalog.costs.rents import rates, rent
from kvplan.catalog.fields import (
    ValueRange,
    count,
    duration,
    known_fields,
    listed,
    mapping,
    named,
    percentile,
    queries,
    share,
    text,
)
from kvplan.catalog.files import Document, called, read_text, read_yaml
from kvplan.catalog.hardware.gpus import gpu
from kvplan.catalog.lookup import as_path
from kvplan.catalog.workloads import workload
from kvplan.errors import SpecError, shown
from kvplan.specs.fleet import FleetFile, Job, Stock
from kvplan.specs.workload import Slo, Workload
from kvplan.units import DAY

FIELDS = ("name", "rates", "gpus", "workloads", "buckets")
STOCK = ("count", "price")
JOB = ("name", "workload", "model", "queries_per_day", "rate", "ttft", "tpot", "e2e", "percentile", "max_quality_drop")
EXAMPLE = "{workload: chat, model: llama3.1-8b, queries_per_day: 400k, ttft: 1s}"
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
    location = called(path)
    raw = read_yaml(read_text(path, location), location, typed=False)
    known_fields(raw, FIELDS, location, "fleet")
    gpus = mapping(raw.get("gpus"), f"{location}: gpus", "{h100: 32, h200: 8}")
    jobs = listed(raw.get("workloads"), f"{location}: workloads", f"[{EXAMPLE}]", fewest=1)
    if len(jobs) > MOST_JOBS:
        raise SpecError(f"{location}: workloads: expected a list of 1 to {MOST_JOBS}, got {len(jobs)}")
    return FleetFile(
        name=text(raw, "name", location, path.stem),
        stocks=_stocks(gpus, rates(raw.get("rates", {}), f"{location}: rates"), f"{location}: gpus"),
        jobs=_jobs(jobs, location),
        buckets=count(raw.get("buckets", str(BUCKETS)), f"{location}: buckets", ValueRange(1, MOST_BUCKETS)),
    )


def _stocks(raw: Document, stated: Mapping[str, float], location: str) -> tuple[Stock, ...]:
    stocks: dict[str, Stock] = {}
    for word, value in raw.items():
        place = f"{location}: {word}"
        given = value if isinstance(value, dict) else {"count": value}
        known_fields(given, STOCK, place)
        found = named(gpu, word, location)
        if given.get("count") == "0":
            raise SpecError(f"{place}: count: leave out a GPU of which there is none")
        had = count(given.get("count"), f"{place}: count", ValueRange(1, MOST_GPUS), "8")
        price = rent(given["price"], f"{place}: price", stated) if "price" in given else None
        if found.name in stocks:
            raise SpecError(f"{place}: {found.name} stands twice under two names; write it once")
        stocks[found.name] = Stock(gpu=found, count=had, price=price)
    if not stocks:
        raise SpecError(f"{location}: no GPU is listed; write what can be had, as in {{h100: 32, h200: 8}}")
    return tuple(stocks.values())


def _jobs(raw: list[Any], location: str) -> tuple[Job, ...]:
    jobs: dict[str, Job] = {}
    for n, entry in enumerate(raw, 1):
        job = _job(entry, f"{location}: workload {n}")
        if job.name in jobs:
            raise SpecError(f"{location}: workload {n}: {shown(job.name)} stands twice; give each a name of its own")
        jobs[job.name] = job
    return tuple(jobs.values())


def _job(raw: object, location: str) -> Job:
    given = mapping(raw, location, EXAMPLE)
    known_fields(given, JOB, location)
    template = named(workload, text(given, "workload", location, example=EXAMPLE), location)
    drop = given.get("max_quality_drop")
    return Job(
        name=text(given, "name", location, template.name),
        workload=replace(_volume(template, given, location), slo=_slo(template.slo, given, location)),
        model=named(model, text(given, "model", location, example=EXAMPLE), location),
        quality=None
        if drop is None
        else share(drop, f"{location}: max_quality_drop", ValueRange(0, 1, below=True), "1%"),
    )


def _volume(template: Workload, given: Document, location: str) -> Workload:
    if "queries_per_day" in given and "rate" in given:
        raise SpecError(f"{location}: write queries_per_day or rate, not both")
    if "rate" in given:
        volume = DAY * queries(given["rate"], f"{location}: rate", RATE)
    elif "queries_per_day" in given:
        volume = queries(given["queries_per_day"], f"{location}: queries_per_day", VOLUME)
    else:
        return template
    return replace(template, arrivals=replace(template.arrivals, queries_per_day=volume))


def _slo(usual: Slo, given: Document, location: str) -> Slo:
    """Return the file's limits, the workload's where the file is silent."""
    limits = {
        k: duration(given[k], f"{location}: {k}") if k in given else getattr(usual, k) for k in ("ttft", "tpot", "e2e")
    }
    part = given.get("percentile")
    return Slo(
        **limits,
        percentile=usual.percentile if part is None else percentile(part, f"{location}: percentile", MEDIAN),
    )
