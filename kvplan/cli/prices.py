"""`kvplan prices`: what GPUs and APIs cost, from whom, since when, and how old each figure is."""

from dataclasses import replace
from datetime import date

import click

from kvplan import catalog
from kvplan.cli.options import deliver, examples, json_option, path, say
from kvplan.errors import KvplanError, SpecError, UnknownName, shown
from kvplan.report.formats import Report
from kvplan.specs.hardware import Price
from kvplan.specs.money import ApiPrice


def picked(prices: tuple[Price, ...], wanted: dict[str, tuple[str, ...]]) -> list[Price]:
    """Return the prices of the named GPUs, providers and terms; raise UnknownName for a name that none has."""
    for field, names in wanted.items():
        known = {str(getattr(p, field)) for p in prices}
        for name in names:
            if field != "gpu" and name not in known:
                raise UnknownName(field, name, known, where=f"--{field}")
    chosen = (p for p in prices if all(not names or getattr(p, field) in names for field, names in wanted.items()))
    return sorted(chosen, key=lambda p: (p.gpu, rank(p.term), p.term, p.price))


def rank(term: str) -> int:
    """Return where a term stands in a list: what anyone can get first."""
    kinds = ("on-demand", "reserved", "spot", "community", "owned")
    return next((i for i, kind in enumerate(kinds) if term.startswith(kind)), len(kinds))


def picked_apis(providers: tuple[str, ...], files: tuple[str, ...]) -> list[ApiPrice]:
    """Return the prices of the named APIs, the user's first; raise UnknownName for a provider that has none."""
    prices = (*(p for word in files for p in catalog.api_file(word)), *catalog.apis())
    known = {p.provider for p in prices}
    for name in providers:
        if name not in known:
            raise UnknownName("API provider", name, known, where="--provider")
    return [p for p in prices if not providers or p.provider in providers]


def refresh(output: str | None, today: str) -> None:
    """Write today's prices into the user's file and say what was written, on stderr."""
    from kvplan.catalog import cloud

    if output is None:
        raise SpecError("--refresh: name the file to write with -o, as in -o prices.yaml")
    found, left_out = cloud.online(today)
    if not found:
        raise SpecError("gpuhunt offered no GPU that kvplan knows; nothing was written")
    title = f"Cheapest cloud offers of {today}, per GPU"
    catalog.write_prices(output, title, found, cloud.source_of(today))
    other = f"; {left_out:,} offers of other or unclear GPUs left out" if left_out else ""
    say(f"wrote {len(found)} prices into {output}{other}")


def day(text: str | None) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else date.today().isoformat()
    except ValueError:
        raise SpecError(f"--on: expected a date such as 2026-11-23, got {shown(text)}") from None


def show_ownership(word: str, gpus: tuple[str, ...], today: str, as_json: bool) -> None:
    """Show what owning takes, and what an hour of these GPUs costs; of all with a known server price for none."""
    from kvplan.planning.estimate import STALE
    from kvplan.report import ownership

    terms = catalog.ownership(word)
    names = dict.fromkeys(catalog.gpu(name).name for name in gpus) or dict.fromkeys(s.gpu for s in terms.servers)
    missing = [name for name in names if terms.server(name) is None]
    if missing:
        raise KvplanError(f"no price of a server with {missing[0]} is known; write one under servers: in your own file")
    terms = replace(terms, servers=tuple(s for s in terms.servers if s.gpu in names))
    said = (terms, [catalog.gpu(name) for name in names], today, STALE)
    deliver(Report(lambda: ownership.page(*said), lambda: ownership.document(*said)), as_json)


def show_apis(charged: list[ApiPrice], today: str, as_json: bool) -> None:
    """Show what APIs charge; no price is a refusal."""
    from kvplan.planning.estimate import STALE
    from kvplan.report import prices

    refusal = "" if charged else f"no API price is known on {today}"
    if refusal and not as_json:
        raise KvplanError(refusal)
    said = (charged, today, STALE)
    deliver(Report(lambda: prices.api_page(*said), lambda: prices.api_document(*said)), as_json, refusal)


def show_gpus(found: list[Price], wanted: dict[str, tuple[str, ...]], today: str, as_json: bool) -> None:
    """Show what GPUs rent for; no price is a refusal that names what was `wanted`."""
    from kvplan.planning.estimate import STALE
    from kvplan.report import prices

    named = " ".join(word for words in wanted.values() for word in words)
    refusal = f"no price{f' for {named}' if named else ''} is known on {today}; give your own with --prices FILE"
    if not found and not as_json:
        raise KvplanError(refusal)
    said = (found, today, STALE)
    report = Report(lambda: prices.gpu_page(*said), lambda: prices.gpu_document(*said))
    deliver(report, as_json, "" if found else refusal)


@click.command("prices")
@click.option("--gpu", "-g", "gpus", multiple=True, metavar="GPU", help="Only this GPU; repeatable.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this provider; repeatable.")
@click.option("--term", "terms", multiple=True, metavar="TERM", help="Only on-demand, spot, reserved-3y ...")
@click.option("--apis", is_flag=True, help="Show what APIs charge per million tokens instead.")
@click.option(
    "--own",
    is_flag=False,
    flag_value=catalog.DEFAULT,
    metavar="[FILE]",
    help="Show what owning takes and costs an hour instead; your own figures from a file.",
)
@click.option(
    "--prices",
    "files",
    multiple=True,
    type=path,
    help="A price file of your own, with --apis an API's; repeatable.",
)
@click.option("--on", metavar="DATE", help="The prices of another day. Default: today.")
@click.option("--refresh", "renew", is_flag=True, help="Load today's offers through gpuhunt into the file -o names.")
@click.option("-o", "output", type=path, help="Where --refresh writes; show it with --prices.")
@json_option
@examples(
    "kvplan prices --gpu h100",
    "kvplan prices --term spot --on 2026-06-01",
    "kvplan prices --apis --json",
    "kvplan prices --own --gpu h100",
    "kvplan prices --refresh -o today.yaml",
)
def command(
    gpus: tuple[str, ...],
    providers: tuple[str, ...],
    terms: tuple[str, ...],
    apis: bool,
    own: str | None,
    files: tuple[str, ...],
    on: str | None,
    renew: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Show dated prices of GPUs by provider and term, or of APIs; old ones are marked."""
    today = day(on)
    if output is not None and not renew:
        raise SpecError("-o: only --refresh writes a file")
    if own:
        if apis or renew or providers or terms or files:
            raise SpecError("--own: shows servers, which only --gpu narrows; leave the other flags out")
        show_ownership(own, gpus, today, as_json)
        return
    if apis:
        if gpus or terms or renew:
            raise SpecError("--apis: what an API charges has no GPU and no term; leave those flags out")
        show_apis([p for p in picked_apis(providers, files) if p.current(today)], today, as_json)
        return
    if renew:
        refresh(output, date.today().isoformat())
        assert output is not None
        files = (*files, output)
    wanted = {"gpu": tuple(catalog.gpu(name).name for name in gpus), "provider": providers, "term": terms}
    found = [p for p in picked(catalog.all_prices(files), wanted) if p.current(today)]
    show_gpus(found, wanted, today, as_json)
