"""Reading a fleet file: the workloads to serve, and the GPUs that can be had."""

from dataclasses import replace
from typing import Any

from kvplan import catalog
from kvplan.catalog.fields import known_fields, mapping
from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path
from kvplan.catalog.workloads import workload
from kvplan.errors import KvplanError, SpecError, shown
from kvplan.specs.fleet import FleetFile, Job, Stock
from kvplan.specs.workload import Slo, Workload
from kvplan.units import DAY, parse

FIELDS = ("name", "gpus", "workloads", "buckets")
STOCK = ("count", "price")
JOB = ("name", "workload", "model", "queries_per_day", "rate", "ttft", "tpot", "e2e", "percentile", "max_quality_drop")
EXAMPLE = "{workload: chat, model: llama3.1-8b, queries_per_day: 400,000, ttft: 1s}"
#: buckets of input length where the file does not say
BUCKETS = 4
#: buckets beyond which columns multiply and nothing is gained; jobs that one plan is asked for; GPUs of one type
MOST_BUCKETS, MOST_JOBS, MOST_GPUS = 8, 32, 1e6


def fleet(word: str) -> FleetFile:
    """Return a fleet by its YAML file."""
    path = as_path(word)
    if path is None or path.is_dir():
        raise SpecError(f"{word}: no such file; a fleet is a YAML file of yours, as in ./fleet.yaml")
    where = path.name
    raw = read_yaml(read_text(path, where), where, typed=False)
    known_fields(raw, FIELDS, where)
    gpus = mapping(raw.get("gpus"), f"{where}: gpus", "{h100: 32, h200: 8}")
    jobs = raw.get("workloads")
    if not isinstance(jobs, list) or not 1 <= len(jobs) <= MOST_JOBS:
        raise SpecError(f"{where}: workloads: expected a list of 1 to {MOST_JOBS}, as in [{EXAMPLE}]")
    buckets = _number(raw.get("buckets", str(BUCKETS)), f"{where}: buckets", MOST_BUCKETS, whole=True)
    return FleetFile(
        name=str(raw.get("name", path.stem)),
        stocks=_stocks(gpus, f"{where}: gpus"),
        jobs=_jobs(jobs, where),
        buckets=int(buckets),
    )


def _stocks(raw: Document, where: str) -> tuple[Stock, ...]:
    found: dict[str, Stock] = {}
    for word, value in raw.items():
        place = f"{where}: {word}"
        given = value if isinstance(value, dict) else {"count": value}
        known_fields(given, STOCK, place)
        gpu = _named(lambda w=word: catalog.gpu(w), where)
        count = _number(given.get("count"), f"{place}: count", MOST_GPUS, whole=True)
        price = _price(given["price"], f"{place}: price") if "price" in given else None
        if gpu.name in found:
            raise SpecError(f"{place}: {gpu.name} stands twice under two names; write it once")
        found[gpu.name] = Stock(gpu=gpu, count=int(count), price=price)
    if not found:
        raise SpecError(f"{where}: no GPU is listed; write what can be had, as in {{h100: 32, h200: 8}}")
    return tuple(found.values())


def _jobs(raw: list[Any], where: str) -> tuple[Job, ...]:
    found: dict[str, Job] = {}
    for number, entry in enumerate(raw, 1):
        job = _job(entry, f"{where}: workload {number}")
        if job.name in found:
            raise SpecError(f"{where}: workload {number}: {shown(job.name)} stands twice; give each a name of its own")
        found[job.name] = job
    return tuple(found.values())


def _job(raw: object, where: str) -> Job:
    given = mapping(raw, where, EXAMPLE)
    known_fields(given, JOB, where)
    for key in ("workload", "model"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise SpecError(f"{where}: {key} is missing, as in {EXAMPLE}")
    asked = _named(lambda: workload(given["workload"]), where)
    drop = given.get("max_quality_drop")
    return Job(
        name=str(given.get("name", asked.name)),
        workload=replace(_volume(asked, given, where), slo=_slo(asked.slo, given, where)),
        model=_named(lambda: catalog.model(given["model"]), where),
        quality=None if drop is None else _share(drop, f"{where}: max_quality_drop", 0.0, "1%"),
    )


def _volume(asked: Workload, given: Document, where: str) -> Workload:
    if "queries_per_day" in given and "rate" in given:
        raise SpecError(f"{where}: write queries_per_day or rate, not both")
    if "rate" in given:
        volume = DAY * _number(given["rate"], f"{where}: rate", 1e7)
    elif "queries_per_day" in given:
        volume = _number(given["queries_per_day"], f"{where}: queries_per_day", 1e11)
    else:
        return asked
    return replace(asked, arrivals=replace(asked.arrivals, queries_per_day=volume))


def _slo(usual: Slo, given: Document, where: str) -> Slo:
    """Return the file's limits, the workload's where the file is silent."""
    limits = {k: _time(given[k], f"{where}: {k}") if k in given else getattr(usual, k) for k in ("ttft", "tpot", "e2e")}
    share = usual.percentile
    if "percentile" in given:
        share = _share(_percent(given["percentile"]), f"{where}: percentile", 0.5, "95")
    return Slo(**limits, percentile=share)


# -- values ---------------------------------------------------------------------------------------


def _named(read: Any, where: str) -> Any:
    """Return what a name stands for; a refusal says where it stands."""
    try:
        return read()
    except KvplanError as refusal:
        raise SpecError(f"{where}: {refusal}") from None


def _number(raw: object, where: str, most: float, *, whole: bool = False) -> float:
    if raw is None:
        raise SpecError(f"{where} is missing, as in 8")
    number = parse(raw, "1", where)
    if not 0 < number <= most or (whole and number != int(number)):
        kind = "a whole number from 1" if whole else "above zero and"
        leave = "; leave out a GPU of which there is none" if where.endswith("count") and number == 0 else ""
        raise SpecError(f"{where}: must be {kind} {'to' if whole else 'at most'} {most:,.0f}, got {shown(raw)}{leave}")
    return number


def _time(raw: object, where: str) -> float:
    number = parse(raw, "s", where)
    if number <= 0:
        raise SpecError(f"{where}: must be above zero, as in 5s or 50ms, got {shown(raw)}")
    return number


def _percent(raw: object) -> str:
    """Return 95 as 95%, as workloads write a percentile; 0.95 stays."""
    text = str(raw).strip()
    return text if text.endswith("%") or text.startswith(("0.", ".")) else f"{text}%"


def _share(raw: object, where: str, least: float, example: str) -> float:
    """Read 1% or 0.01."""
    text = str(raw).strip()
    number = parse(text.removesuffix("%"), "1", where) * (0.01 if text.endswith("%") else 1.0)
    if not least <= number < 1:
        raise SpecError(f"{where}: must be from {least:.0%} to below 100%, as in {example}, got {shown(text)}")
    return number


def _price(raw: object, where: str) -> float:
    """Read 2.49 USD/h, $2.49/h or 2.49/h. [USD/s]"""
    amount, slash, per = str(raw).strip().lstrip("$").partition("/")
    found = parse(f"{amount.replace('USD', '').strip()} USD{slash}{per}", "USD/s", where)
    if not 0 < found < 1e6:
        raise SpecError(f"{where}: must be above zero, as in 2.49 USD/h, got {shown(raw)}")
    return found
