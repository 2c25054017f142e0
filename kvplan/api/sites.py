"""GPUs as places to serve on: what each costs on a day, draws, and reaches under the profile asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from kvplan import catalog
from kvplan.api.values import several
from kvplan.architectures.formats import format_named
from kvplan.errors import Incompatible, SpecError, WrongUse
from kvplan.kv.deployment import Running
from kvplan.kv.replica import Parallel
from kvplan.money.offers import typical_spread
from kvplan.planning.site import Site
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine, Gpu, Price
from kvplan.specs.model import ModelSpec
from kvplan.specs.serving_profile import ServingProfile, mixes
from kvplan.specs.source import Source

if TYPE_CHECKING:
    from kvplan.money.draw import Draw
    from kvplan.specs.money import Ownership

#: the profile of servers that stands where none is named
PUBLISHED = "published"
#: engines whose servers were measured
ENGINES = ("vllm", "trtllm", "sglang")
#: the term of offers that stands where none is named
ON_DEMAND = "on-demand"


def gpus_of(names: str | Iterable[str]) -> dict[str, Gpu]:
    """Return GPUs by name, each once, all on the shelf where none is named."""
    return {gpu.name: gpu for gpu in map(catalog.gpu, several(names, "gpus") or catalog.names("gpus"))}


def supported_gpus(gpus: Mapping[str, Gpu], engine: str) -> dict[str, Gpu]:
    """Return the GPUs that an engine runs on."""
    rules = catalog.engine(engine)
    return {name: gpu for name, gpu in gpus.items() if not rules.bars(gpu)}


def no_supported_gpu(gpus: Mapping[str, Gpu], engine: str) -> Incompatible:
    """Return the refusal of an engine that runs on none of the GPUs."""
    why = catalog.engine(engine).bars(next(iter(gpus.values())))
    return Incompatible(f"engine: {why}, not on {', '.join(gpus)}; name another engine or GPU")


def gpus_with_a_price(day: str, listed: Iterable[Price], term: str = ON_DEMAND) -> dict[str, Gpu]:
    """Return the GPUs that have a price on a day, by name; all on the shelf where none has one."""
    known = {p.gpu for p in (*listed, *catalog.prices()) if p.term == term and p.current(day)}
    return gpus_of(sorted(known))


def site(
    gpu: Gpu,
    about: ModelSpec | None,
    day: str,
    *,
    price: float | None = None,
    listed: tuple[Price, ...] = (),
    term: str = ON_DEMAND,
    owned: str | None = None,
    power: bool = False,
    engine: str = "vllm",
    profile: str = PUBLISHED,
    parallel: Parallel | None = None,
    weights: str | None = None,
    utilization: float | None = None,
    running: Running | None = None,
    length: float = 0.0,
) -> Site:
    """Return a GPU to serve a model on: at one's own price [USD/s], owned under a file's terms, or at the day's offers.

    Its requests have up to `length` tokens, which engines that do not cut prompts read in one step. `listed` prices of
    one's own stand for the shelf's. With `power` its draw is looked up too. `engine` may say a release, as in
    vllm@0.19. Raises Incompatible for one that does not run on the GPU.
    """
    rules = catalog.engine(engine)
    if not supported_gpus({gpu.name: gpu}, engine):
        raise no_supported_gpu({gpu.name: gpu}, engine)
    reached = widened_where_assumed(calibration_of(gpu, about, profile, rules, weights), about)
    ranks, context = parallel.data if parallel else 1, (about.max_context or 0) if about else 0
    place = Site(
        gpu=gpu,
        calibration=replace(
            reached,
            chunk=float(rules.prompt_tokens(gpu, length, ranks, context=context)),
            mixes=float(mixes(rules.name, rules.release)),
        ),
        engine=rules,
        offers=(own_offer(gpu, price, day),) if price else catalog.offers(gpu.name, day, term, listed),
        parallel=parallel,
        weights=weights,
        utilization=utilization,
        running=running or Running(),
    )
    if place.lone_offer:
        place = replace(place, typical=typical_price_spread(day, term))
    return place if owned is None and not power else with_power(place, owned, profile)


def with_power(site: Site, owned: str | None, profile: str) -> Site:
    """Return a site with its GPU's power, and what it costs where it is owned under a file's terms."""
    from kvplan import catalog
    from kvplan.money.gpu_cost import own

    terms = catalog.ownership(owned or catalog.DEFAULT)
    draw = draw_of(site.gpu, terms, profile)
    if owned is None:
        return replace(site, draw=draw)
    return replace(site, draw=draw, offers=(), owned=own(site.gpu, terms, draw))


@cache
def typical_price_spread(day: str, term: str) -> tuple[float, ...]:
    """Return the spread of a GPU's offers over their median, of all GPUs with several offers on a day."""
    return typical_spread(catalog.offers_by_gpu(day, term).values())


def price_list(price: float | str | None, prices: str | Iterable[str]) -> tuple[Price, ...]:
    """Return the prices of the user's lists; refuse them beside a price of one GPU."""
    words = several(prices, "prices")
    if price is not None and words:
        raise WrongUse("price, prices: give one of them; write the price into the list")
    return catalog.price_list(words)


def priced_for_comparison(places: Mapping[str, Site]) -> dict[str, Site]:
    """Return places as they are compared: a GPU with one offer at the upper end of a spread, where others have several.

    One offer may be the lowest of many, so it wins only where it would at the 90th percentile of a typical spread.
    """
    if not any(len(place.offers) > 1 for place in places.values()):
        return dict(places)
    return {name: place.compared() for name, place in places.items()}


def own_offer(gpu: Gpu, price: float, day: str, ref: str = "your price") -> Price:
    """Return the user's own price as an offer. [USD/s]"""
    source = Source(kind="quote", ref=ref, date=day)
    return Price(
        gpu=gpu.name, provider="yours", term="as given", price=price, start=day, end=None, note="", source=source,
        yours=True,
    )  # fmt: skip


def check_one_gpu(price: float | None, chosen: dict[str, Gpu], named: bool) -> None:
    """Refuse a price that is not for one GPU."""
    if price and not (named and len(chosen) == 1):
        raise SpecError("price: name the one GPU it is for with gpus=h100")


def calibration_of(
    gpu: Gpu, about: ModelSpec | None, profile: str, engine: Engine, weights: str | None = None
) -> Calibration:
    """Return what a server of this GPU and engine reaches under a profile of servers, or of kernels.

    Kernels are those of the weights' format; where the planner may choose it, of the checkpoint's own. The release is
    the one named; where none is, the one whose rules stand, if the profile measured this server with it.
    """
    form = format_named(weights) if weights else None
    bits = form.bits if form else None
    if catalog.is_serving(profile):
        shipped = catalog.serving_profile(profile).name == PUBLISHED
        found = catalog.calibration(gpu, engine.name, about, profile, bits, engine.named, engine.release)
        return found if shipped else under(found, profile)
    servers, name, measured = with_kernels_of(profile)
    release = servers.release(gpu, engine.name, about, engine.named, engine.release)
    calibration = servers.calibrate(gpu, engine.name, about, release, bits)
    if gpu.name not in measured:
        return calibration
    return replace(calibration, evidence=f"{calibration.evidence}; its matrix products as {name} measured them")


def under(calibration: Calibration, profile: str) -> Calibration:
    """Return a calibration that says it is of a profile of one's own: nothing else tells that it was taken."""
    name = catalog.serving_profile(profile).name
    return replace(calibration, evidence=f"{calibration.evidence}; under the profile {name}")


def widened_where_assumed(calibration: Calibration, about: ModelSpec | None) -> Calibration:
    """Return a calibration whose intervals are wider where the model's architecture was taken for a plain decoder's."""
    if about is None or not about.assumed:
        return calibration
    from kvplan.architectures.assumed import PLAIN_ERROR, taken_for_plain

    if not taken_for_plain(about.assumed):
        return calibration
    return replace(
        calibration,
        tpot=calibration.tpot.wider(PLAIN_ERROR),
        ttft=calibration.ttft.wider(PLAIN_ERROR),
        evidence=f"{calibration.evidence}; wider, for its architecture is unknown",
    )


def draw_of(gpu: Gpu, assumed: "Ownership", profile: str) -> "Draw | None":
    """Return a GPU's power: measured where the profile asked for did, else shares of the datasheet's; None unknown."""
    from kvplan.money.draw import measured_draw, rated_draw

    if not catalog.is_serving(profile):
        from kvplan.catalog.rows.tables import kernel_document

        raw, source, location = kernel_document(profile)
        if raw.get("energy") and gpu.name in raw.get("kernels", {}):
            return measured_draw(raw["energy"], source, location)
    return rated_draw(gpu, assumed)


@cache
def with_kernels_of(profile: str) -> tuple[ServingProfile, str, tuple[str, ...]]:
    """Return the shipped profile of servers with the products of a profile of kernels, its name, and its GPUs."""
    from kvplan.api.kernel_profiles import known
    from kvplan.catalog.rows.tables import kernel_document
    from kvplan.measuring.kernels.shares import REFERENCES, measured_here
    from kvplan.perf.kernel_profile import Predictor, read_profile

    raw, source, location = kernel_document(profile)
    device = raw.get("device")
    if isinstance(device, dict) and device.get("kind") == "cpu":
        raise SpecError(
            f"profile: {location} is of a CPU and says nothing of a GPU; leave it out to plan with published servers, "
            "or run kvplan profile on a machine with the GPU"
        )
    if not isinstance(raw.get("kernels"), dict):
        raise SpecError(
            f"{location}: holds neither servers nor kernels of a GPU; see kvplan calibrate and kvplan profile"
        )
    mine = read_profile(raw, source, location)
    gpus = tuple(name for name, engines in mine.kernels.items() if any("gemm" in kinds for kinds in engines.values()))
    if not gpus:
        raise SpecError(f"{location}: measured no matrix products (gemm), which the times of servers rest on")
    servers = catalog.serving_profile()
    published = known(())
    shipped, mine_alone = Predictor(published, catalog.gpu), Predictor([mine], catalog.gpu)
    wanted = {*REFERENCES, *gpus}
    references = [catalog.gpu(name) for one in published for name in one.kernels if name in wanted]
    for name in gpus:
        servers = measured_here(servers, mine_alone, shipped, catalog.gpu(name), references)
    return servers, mine.name, gpus


def word_of(gpu: str, words: Iterable[str]) -> str:
    """Return the word that named a GPU, which may be a file; its name where none did."""
    return next((word for word in words if catalog.gpu(word).name == gpu), gpu)
