"""The replica that serves a case, as `kvplan estimate` has it, and how far its times may be off."""

from dataclasses import replace

from kvplan.claims.checks import Answer, Evidence, need, unknown
from kvplan.kv.replica import Parallel
from kvplan.planning.evaluation import Evaluation
from kvplan.planning.replica import evaluations
from kvplan.planning.server import Server, server
from kvplan.planning.site import Query, Site
from kvplan.planning.speculation import Speculation
from kvplan.specs.claims import ClaimCase
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source

#: tokens generated per query where a claim does not say
OUTPUT = 512
#: fields that every check of a model on a GPU needs, and those it may have
PLACE = ("model", "gpu")
RUN = ("context", "output", "workload", "technique", "weights", "batch", "tp")


def query(case: ClaimCase) -> Query:
    """Return the request of a case: its context, or the mean lengths of its workload."""
    if case.workload is not None:
        output = max(round(case.workload.output.mean), 1)
        return Query(context=round(case.workload.input.mean) + output, output=output)
    context = need(case.context)
    return Query(context=context, output=case.output or min(OUTPUT, max(context // 2, 1)))


def site_of(case: ClaimCase, evidence: Evidence, gpu: str = "") -> Site:
    """Return a GPU's site with what the case fixes: shape, weights, batch, price."""
    site = evidence.sites[gpu or need(case.gpu).name]
    engine = site.engine
    parallel = Parallel(tensor=case.tp) if case.tp else None
    if case.batch:
        engine = engine.taking(case.batch)
    if case.price:
        source = Source(kind="quote", ref="the price in the claims file", date=evidence.day)
        terms = {"provider": "the claim", "term": "as given", "start": evidence.day, "end": None, "note": ""}
        site = replace(site, offers=(Price(gpu=site.gpu.name, price=case.price, source=source, **terms),))  # type: ignore[arg-type]
    return replace(site, weights=case.weights, parallel=parallel, engine=engine)


def run(
    case: ClaimCase,
    evidence: Evidence,
    technique: str,
    *,
    gpu: str = "",
    parallel: Parallel | None = None,
    context: int = 0,
) -> Evaluation:
    """Return kvplan's estimate of a case: its cheapest replica, unless `parallel` or the case fixes one."""
    site = site_of(case, evidence, gpu)
    request = Query(context=context, output=1) if context else query(case)
    if parallel:
        site = replace(site, parallel=parallel)
    return evaluations(need(case.model), (technique,), request, site)[-1]


def on_same_gpus(case: ClaimCase, evidence: Evidence) -> tuple[Evaluation, Evaluation] | Answer:
    """Return the replica without a case's technique and the same GPUs with it, or why one of them is infeasible."""
    before = run(case, evidence, case.against)
    if not before.feasible:
        return refusal(before, f"{before.technique}: ")
    after = run(case, evidence, case.technique, parallel=before.parallel)
    return (before, after) if after.feasible else refusal(after)


def busy_server(
    case: ClaimCase, evidence: Evidence, row: Evaluation, *, hit: float = 0.0, speculation: Speculation | None = None
) -> Server:
    """Return a row's replica as a server, with a share of every prompt in its prefix cache, or with speculation."""
    site = replace(site_of(case, evidence, row.gpu), parallel=row.parallel)
    request = query(case)
    return server(
        need(case.model), site, technique=row.technique, prompt=request.prompt, output=request.output, hit=hit,
        speculation=speculation,
    )  # fmt: skip


# -- how far it may be off --------------------------------------------------------------------------


def change(after: float, before: float, spread: tuple[float, float]) -> tuple[float, float]:
    """Return what a ratio of two estimates may truly be.

    What both have in common (R) cancels; what differs (D) may be off against the rest by k, the spread of one estimate
    over another's: (R + k D') / (R + k D). Of all splits R + D = 1 the farthest have D' = 0 where time falls, D = 0
    where it grows.
    """
    low, high = spread
    ratio = after / before
    ends = []
    for k in (low / high, high / low):
        fall = 1 - ratio
        ends.append(1 - k * fall / (1 + (k - 1) * fall) if fall > 0 else 1 - k * fall)
    return min(ends), max(ends)


def from_times(
    value: float, low: float, high: float, line: str, sources: tuple[Source, ...], *rows: Evaluation
) -> Answer:
    """Return a figure that rests on times; a GPU on which no server was measured is named."""
    guesses = dict.fromkeys(
        f"no server with {r.gpu} was measured: its rates are estimated" for r in rows if not r.grounded
    )
    return Answer(value=value, low=low, high=high, line=line, remarks=tuple(guesses), sources=sources)


def refusal(row: Evaluation, place: str = "") -> Answer:
    """Return why a row has no answer, as a figure that is not known."""
    return unknown(f"{place}{row.reason}")


def site_sources(case: ClaimCase, evidence: Evidence, *gpus: str) -> tuple[Source, ...]:
    """Return what a time or a cost rests on: the model, the calibration, the prices."""
    sites = [site_of(case, evidence, g) for g in gpus or ("",)]
    sources = [need(case.model).source, *(s for site in sites for s in site.calibration.sources)]
    return tuple(dict.fromkeys([*sources, *(site.price.source for site in sites if site.price)]))
