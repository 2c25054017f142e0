"""Money as tables: prices with their age, a bill's two views."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.text import Text

from kvplan.money.api import per_million
from kvplan.money.bill import Bill, kinds_of
from kvplan.money.gpu_cost import own
from kvplan.money.terms import caveat, old
from kvplan.report.tables import brief, fields, grid, notes
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.money import OWNERSHIP_FIELDS, OWNERSHIP_MEANING, ApiPrice, Ownership, age
from kvplan.units import HOUR, KWH, MONTH, YEAR, show_usd

OLD = "old"


def numbered(prices: Iterable[Price | ApiPrice]) -> dict[str, int]:
    """Return a number for each source, in order of appearance."""
    return {ref: n for n, ref in enumerate(dict.fromkeys(brief(p.source) for p in prices), 1)}


def ending(prices: Sequence[Price | ApiPrice], day: str, stale: int) -> list[RenderableType]:
    """Return what follows a table of prices: what old means, and the sources."""
    old = sum(age(p, day) > stale for p in prices)
    said = f"{old} of {len(prices)} were last seen more than {stale} days before {day} ({OLD}): check them first"
    parts: list[RenderableType] = [Text(said, style="yellow")] if old else []
    return [*parts, Text(), *notes((f"[{n}] {ref}" for ref, n in numbered(prices).items()), "Sources")]


def seen(price: Price | ApiPrice, day: str, stale: int) -> str:
    """Return the days since a price was last seen, and whether that is old."""
    days = age(price, day)
    return f"{days} d {OLD}" if days > stale else f"{days} d"


def gpu_prices(prices: Sequence[Price], day: str, stale: int) -> list[RenderableType]:
    """Return GPU prices by GPU, provider and term."""
    table = grid(
        ("GPU", "left"),
        ("term", "left"),
        ("provider", "left"),
        ("$ / GPU-h", "right"),
        ("since", "left"),
        ("seen", "right"),
        ("source", "right"),
    )
    refs, last = numbered(prices), ""
    for p in prices:
        days = age(p, day)
        style = "dim" if days > stale else ""
        cells = (p.term, p.provider, show_usd(p.price * HOUR), p.start, seen(p, day, stale))
        table.add_row("" if p.gpu == last else p.gpu, *cells, f"[{refs[brief(p.source)]}]", style=style)
        last = p.gpu
    terms = dict.fromkeys(p.term for p in prices)
    warned = [Text(f"{term}: {caveat(term)}", style="dim") for term in sorted(terms) if caveat(term)]
    return [Text(f"{len(prices)} prices on {day}", style="bold"), table, *warned, *ending(prices, day, stale)]


def api_prices(prices: Sequence[ApiPrice], day: str, stale: int) -> list[RenderableType]:
    """Return what APIs charge per million tokens."""
    amounts = ("input", "cached", "output")
    headings = (("provider", "left"), ("model", "left"), ("prompts", "left"), *((a, "right") for a in amounts))
    table = grid(*headings, ("since", "left"), ("seen", "right"), ("source", "right"))
    refs = numbered(prices)
    for p in prices:
        shown = [show_usd(usd) if (usd := per_million(x)) is not None else "-" for x in (p.input, p.cached, p.output)]
        style = "dim" if age(p, day) > stale else ""
        which = f"> {p.above:,}" if p.above else "all" if not stepped(p, prices) else "shorter"
        cells = (p.provider, p.model, which, *shown, p.start, seen(p, day, stale))
        table.add_row(*cells, f"[{refs[brief(p.source)]}]", style=style)
    title = f"{len(prices)} API prices on {day}, USD per million tokens; -: not known"
    return [Text(title, style="bold"), table, *ending(prices, day, stale)]


def stepped(price: ApiPrice, prices: Sequence[ApiPrice]) -> bool:
    """Return whether a model costs more for longer prompts."""
    return any(p.model == price.model and p.provider == price.provider and p.above > price.above for p in prices)


#: how a figure of owning is printed: unit -> (factor, name)
SAID = {
    "s": (1 / YEAR, "years"),
    "USD/J": (KWH, "USD/kWh"),
    "USD/W/s": (1e3 * MONTH, "USD/kW/month"),
    "USD/s": (YEAR, "USD/year"),
    "1": (1.0, ""),
}


def ownership(terms: Ownership, gpus: Sequence[Gpu], day: str, stale: int) -> list[RenderableType]:
    """Return what owning takes with sources, and what an hour of each GPU with a known server price then costs."""
    rows = []
    for name, (unit, _, _) in OWNERSHIP_FIELDS.items():
        factor, word = SAID[unit]
        value = f"{getattr(terms, name) * factor:,.6g} {word}".strip()
        rows.append((name, f"{value}: {OWNERSHIP_MEANING[name]}", str(terms.sources[name])))
    for s in terms.servers:
        power = f", {s.power:,.0f} W" if s.power else ""
        rows.append((s.gpu, f"{s.price:,.0f} USD for {s.gpus} GPUs{power}", f"{s.source}; {s.note}"))
    parts = fields(terms.title, rows)
    for gpu in gpus:
        server = terms.server(gpu.name)
        if server and (warning := old(server, day, stale)):
            parts.append(Text(f"Note: {warning}", style="yellow"))
        cost = own(gpu, terms)
        if cost is not None:
            table = grid((f"{gpu.name}, per GPU-hour at work", "left"), ("USD", "right"))
            for line in kinds_of(cost, ""):
                table.add_row(line.name, show_usd(line.amount * HOUR))
            table.add_row("total", show_usd(cost.rate() * HOUR), style="bold")
            parts += [table, Text(f"waiting {show_usd(cost.rate(None) * HOUR)}", style="dim"), Text()]
    return parts


def bill(b: Bill, unit: str = "month") -> list[RenderableType]:
    """Return where each dollar goes, and what it is paid for."""
    parts: list[RenderableType] = []
    for view, title in (("use", "Where each dollar goes"), ("kind", "What is paid for")):
        found, total = b.lines_per(unit, view), b.per(unit)
        if found is None or not total:
            continue
        headings = (f"{title}, per {unit.replace('_', ' ')}", "left"), ("USD", "right"), ("share", "right")
        table = grid(*headings, ("", "wrap"))
        for line in found:
            table.add_row(line.name, show_usd(line.amount), f"{line.amount / total:.0%}", line.basis)
        table.add_row("total", show_usd(total), "100%", f"{b.gpus:g} GPUs", style="bold")
        parts += [table, Text()]
    return [*parts, *(Text(f"Note: {c}", style="yellow") for c in b.caveats)]
