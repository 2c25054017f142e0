"""`kvplan recommend`: a technique, a GPU count and a cost per query for a workload, with reasons and a range."""

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import click

from kvplan.cli.common import deliver, examples, json_option, model_option
from kvplan.cli.common import price as price_type
from kvplan.cli.estimate import checked_day, quoted
from kvplan.cli.serving_profiles import calibrated, draw_of
from kvplan.errors import SpecError, shown
from kvplan.kv import techniques
from kvplan.money.gpu_cost import GpuCost, own, rent
from kvplan.specs import catalog, catalog_money, catalog_quality, catalog_saved, catalog_workloads
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.quantization import FORMATS
from kvplan.specs.workload import Slo, Workload
from kvplan.units import DAY, TERA, parse

if TYPE_CHECKING:
    from kvplan.planning.recommend import Recommendation

#: techniques tried when none is named: every family at the ratios people publish
TRIED = (
    techniques.BASELINE, "fp8", "int8", "int4", "mhc:2x", "mhc:4x", "mhc:8x", "h2o:50%", "h2o:20%", "streaming:4,4096",
    "mhc:4x+fp8", "mhc:4x+h2o:20%", "h2o:20%+fp8",
)  # fmt: skip


#: where the words of the command line are kept
WORDS = "kvplan.words"


class Remembered(click.Command):
    """A command that remembers the words it was called with, so that they can be saved and asked again."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)


def question(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that ask, without those that say where the answer goes."""
    kept, skip = [], False
    for word in words:
        if not skip and word != "--json" and word != "--save" and not word.startswith("--save="):
            kept.append(word)
        skip = word == "--save" and not skip
    return tuple(kept)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """Times such as 5s, 50ms or 0.05; none lifts a limit of the workload."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text, flag = str(value).strip(), param.opts[0] if param else ""
        if text == "none":
            return inf
        found = parse(text if text[-1:].isalpha() else f"{text} s", "s", flag)
        if found <= 0:
            raise SpecError(f"{flag}: must be above zero, as in 5s or 50ms, or none for no limit; got {shown(text)}")
        return found


class Percent(click.ParamType):  # type: ignore[type-arg]
    """Shares such as 1% or 0.01."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text, flag = str(value).strip(), param.opts[0] if param else ""
        found = parse(text.rstrip("%"), "1", flag) * (0.01 if text.endswith("%") else 1.0)
        if not 0 <= found < 1:
            meant = f"write {text}% if that is meant" if 1 <= found < 100 and "%" not in text else "as in 1% or 0.01"
            raise SpecError(f"{flag}: expected a share below 1, {meant}; got {shown(text)}")
        return found


class Volume(click.ParamType):  # type: ignore[type-arg]
    """Queries a day or a second: 40000, 40,000, 2.5 or 2.5/s."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text, flag = str(value).strip(), param.opts[0] if param else ""
        unit = "/s" if flag == "--rate" else "/day"
        found = parse(text.removesuffix(unit), "1", flag)
        if not 0 < found < MOST:
            raise SpecError(
                f"{flag}: must be above zero, as in {'2.5' if unit == '/s' else '40000'}; got {shown(text)}"
            )
        return found


#: more queries than anyone has
MOST = TERA


def demanded(workload: Workload, per_day: float | None, rate: float | None) -> Workload:
    """Return the workload at the volume asked for."""
    if per_day is not None and rate is not None:
        raise SpecError("--queries-per-day, --rate: give one of them, not both")
    volume = rate * DAY if rate is not None else per_day
    if volume is None:
        return workload
    return replace(workload, arrivals=replace(workload.arrivals, queries_per_day=volume))


def finite(limit: float | None, usual: float | None) -> float | None:
    """Return a limit that was given, else the workload's; None where there is none."""
    found = usual if limit is None else limit
    return None if found == inf else found


def cost_of(
    gpu: Gpu, owned: str | None, price: float | None, term: str, day: str, profile: str
) -> tuple[GpuCost | None, Price | None]:
    """Return what a GPU costs, and the offer that stands for it; None where no price is known."""
    if owned is not None:
        terms = catalog_money.ownership(owned)
        return own(gpu, terms, draw_of(gpu, terms, profile)), None
    if price is not None:
        offer: Price | None = quoted(gpu, price, day)
    else:
        offers = catalog.offers(gpu.name, day, term)
        offer = offers[(len(offers) - 1) // 2] if offers else None
    return (rent(offer) if offer else None), offer


def spread_of_prices(gpu: Gpu, offer: Price | None, price: float | None, term: str, day: str) -> tuple[float, ...]:
    """Return the day's offers over the one that is used."""
    if offer is None or price is not None:
        return (1.0,)
    return tuple(p.price / offer.price for p in catalog.offers(gpu.name, day, term))


@click.command("recommend", cls=Remembered)
@click.option("--workload", "-w", required=True, help="A name (see kvplan list workloads) or a YAML file.")
@model_option
@click.option("--queries-per-day", type=Volume(), metavar="Q", help="Mean queries a day. Default: the workload's.")
@click.option("--rate", type=Volume(), metavar="R", help="Mean queries a second, instead of --queries-per-day.")
@click.option("--ttft", type=Seconds(), metavar="TIME", help="Limit of the first token, as in 5s.")
@click.option("--tpot", type=Seconds(), metavar="TIME", help="Limit of the time per token, as in 50ms.")
@click.option("--e2e", type=Seconds(), metavar="TIME", help="Limit of a whole request.")
@click.option("--percentile", type=Percent(), metavar="P", help="Share of requests that keep the limits.")
@click.option("--max-quality-drop", type=Percent(), metavar="P", help="Greatest loss, as in 1%.")
@click.option("--quality", "own_scores", multiple=True, metavar="FILE", help="Scores of your own model; they win.")
@click.option("--gpu", "-g", "gpus", multiple=True, help="Only these GPUs. Default: all with a price.")
@click.option("--technique", "-t", "wanted", multiple=True, help="Only these techniques. Default: every family.")
@click.option("--any-technique", is_flag=True, help="Also recommend techniques that no stock engine serves.")
@click.option("--weights", "forms", multiple=True, type=click.Choice(sorted(FORMATS)), help="Weight formats to try.")
@click.option(
    "--objective", type=click.Choice(["cost", "energy", "gpus", "latency"]), default="cost", help="What to make small."
)
@click.option("--max-gpus", type=click.IntRange(1), metavar="N", help="GPUs that can be had.")
@click.option(
    "--spares", type=click.IntRange(0, 64), default=0, metavar="N", help="Replicas that stand in when others fail."
)
@click.option("--headroom", type=Percent(), default="0", metavar="P", help="Load kept free beyond the peak.")
@click.option("--confidence", type=Percent(), default="0.5", metavar="P", help="How sure each limit must be kept.")
@click.option("--no-prefix-cache", is_flag=True, help="Compute every prompt whole.")
@click.option("--term", default="on-demand", metavar="TERM", help="Rental term: on-demand, reserved-3y, spot ...")
@click.option("--price", type=price_type, metavar="PRICE", help="USD per GPU-hour of the one GPU named, as in 2.49/h.")
@click.option("--own", "owned", is_flag=False, flag_value="default", metavar="[FILE]", help="Owned instead of rented.")
@click.option(
    "--profile",
    default="published",
    metavar="FILE",
    help="A profile of your own: of servers (kvplan calibrate) or kernels (kvplan profile).",
)
@click.option("--on", "day", metavar="DATE", help="Use the prices of this day (YYYY-MM-DD). Default: today.")
@click.option("--save", metavar="FILE", help="Keep the answer as JSON, for kvplan compare.")
@json_option
@examples(
    "kvplan recommend --workload doc-qa --model llama3.1-70b --queries-per-day 40000 --ttft 5s --tpot 50ms",
    "kvplan recommend -w legal-contracts -m qwen3-32b -g h100 -g h200 --max-quality-drop 1%",
)
def command(save: str | None, as_json: bool, **asked: Any) -> None:
    """One plan for a workload: technique, GPUs, cost per query, how sure, and why."""
    found = answer(**asked)
    words = question(click.get_current_context().meta[WORDS])

    def report() -> list[object]:
        from kvplan.report import recommend as wording

        return [*wording.report(found.recommendation, found.titles)]

    if save:
        catalog_saved.save_plan(save, found.document(words))
    deliver(as_json, lambda: found.document(words), report, found.recommendation.lacking)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A recommendation, the titles of the GPUs it looked at, and the day of its prices."""

    recommendation: "Recommendation"
    titles: dict[str, str]
    day: str

    def document(self, words: tuple[str, ...]) -> dict[str, Any]:
        from kvplan.report import recommend_document

        return recommend_document.document(self.recommendation, words, self.day)


def answer(
    *, workload: str, model: str, queries_per_day: float | None, rate: float | None, ttft: float | None,
    tpot: float | None, e2e: float | None, percentile: float | None, max_quality_drop: float | None,
    own_scores: tuple[str, ...], gpus: tuple[str, ...], wanted: tuple[str, ...], any_technique: bool,
    forms: tuple[str, ...], objective: str, max_gpus: int | None, spares: int, headroom: float, confidence: float,
    no_prefix_cache: bool, term: str, price: float | None, owned: str | None, profile: str, day: str | None,
) -> Answer:  # fmt: skip
    """Return the recommendation for the options of the command line."""
    from kvplan.money.terms import old
    from kvplan.planning.answer import STALE, warnings
    from kvplan.planning.estimate import Query
    from kvplan.planning.quality import checked, quality
    from kvplan.planning.recommend import recommend
    from kvplan.planning.search import Demand, Limits, Site

    spec, today = catalog.model(model), checked_day(day)
    asked = demanded(catalog_workloads.workload(workload), queries_per_day, rate)
    if any(mixer.kind == "cross" for mixer in spec.mixers()):
        asked = asked.cross_attended()
    slo = Slo(
        ttft=finite(ttft, asked.slo.ttft), tpot=finite(tpot, asked.slo.tpot), e2e=finite(e2e, asked.slo.e2e),
        percentile=asked.slo.percentile if percentile is None else percentile,
    )  # fmt: skip
    if not 0.5 <= slo.percentile < 1:
        raise SpecError("--percentile: expected a share from 50% to below 100%, as in 95%")
    if not 0.05 <= confidence <= 0.99:
        raise SpecError("--confidence: expected a share from 5% to 99%, as in 80%")
    names = tuple(dict.fromkeys(techniques.canonical(t) for t in (wanted or TRIED)))
    for name in names:
        techniques.parts(name)
    chosen = {gpu.name: gpu for gpu in (map(catalog.gpu, gpus) if gpus else map(catalog.gpu, catalog.names("gpus")))}
    if price and owned:
        raise SpecError("--price, --own: give one of them; the price of an owned server stands in the file of --own")
    if price and len(chosen) != 1:
        raise SpecError("--price: name the one GPU it is for with --gpu")
    costs = {name: cost_of(gpu, owned, price, term, today, profile) for name, gpu in chosen.items()}
    unpriced = [name for name, (cost, _) in costs.items() if cost is None]
    if len(unpriced) == len(chosen) and objective == "cost":
        raise SpecError(no_price(unpriced if gpus else [], owned, term, today))
    sites = [
        Site(gpu=gpu, calibration=calibrated(gpu, spec, profile), cost=costs[name][0])
        for name, gpu in chosen.items()
        if costs[name][0] is not None or (gpus and objective != "cost")
    ]
    demand = Demand(
        model=spec,
        workload=replace(asked, slo=slo),
        peak=asked.arrivals.mean_rate if asked.offline else asked.arrivals.peak_rate,
        mean=asked.arrivals.mean_rate,
        limits=Limits(
            ttft=slo.ttft, tpot=slo.tpot, e2e=slo.e2e, percentile=slo.percentile, quality=max_quality_drop,
            gpus=max_gpus, confidence=confidence, any_technique=any_technique,
        ),
        engine=catalog.engine(),
        forms=tuple(dict.fromkeys(forms)) or (None,),
        headroom=headroom,
        spares=spares,
        prefix_cache=not no_prefix_cache,
    )  # fmt: skip
    table = catalog_quality.quality_table()
    own_tables = [checked(catalog_quality.quality_file(word)) for word in own_scores]
    context = int(asked.context(slo.percentile))
    ownership = catalog_money.ownership(owned or "default")
    found = recommend(
        demand,
        names,
        sites,
        {name: quality(name, spec, asked.task, context, table, *own_tables) for name in names},
        objective=objective,
        draws={site.gpu.name: draw_of(site.gpu, ownership, profile) for site in sites},
        prices={
            site.gpu.name: spread_of_prices(site.gpu, costs[site.gpu.name][1], price, term, today) for site in sites
        },
        apis=catalog_money.apis(),
        day=today,
        guesses=bool(gpus),
        absent={name: no_price([], owned, term, today) for name in unpriced if name not in {s.gpu.name for s in sites}},
    )
    warned = list(warnings(spec, Query(context=context, output=1), (), today))
    if found.plan is not None:
        offer = costs[found.plan.gpu][1]
        warned += [outdated] if offer is not None and (outdated := old(offer, today, STALE)) else []
        if chosen[found.plan.gpu].bf16 is None and spec.dtype == "bfloat16":
            warned.append(f"{found.plan.gpu} has no bf16: weights and cache run in fp16")
    found = replace(found, warnings=tuple(warned))
    return Answer(recommendation=found, titles={name: gpu.title for name, gpu in chosen.items()}, day=today)


def no_price(names: list[str], owned: str | None, term: str, day: str) -> str:
    """Return what is missing, and what to write, where GPUs have no price."""
    which = ", ".join(names) or "it"
    if owned is not None:
        known = (
            "what a server with {} costs, or its power, is unknown; write it under servers: in a file for --own FILE"
        )
        return known.format(which)
    if not names:
        return f"no {term} price on {day}; give one with --gpu and --price, or another --term"
    return f"no {term} price of {which} on {day}; give one with --price 2.49/h, or another --term or --on"
