"""Results as text for people: rich tables, the answer first, the sources last."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from kvplan.errors import visible
from kvplan.kv.budget import Budget
from kvplan.kv.layout import equation
from kvplan.perf.operators import Operator
from kvplan.perf.step_time import ENGINE_ITSELF, bound, operator_time, overhead, reach, step_time
from kvplan.planning.answer import Estimate
from kvplan.planning.estimate import Row, Site
from kvplan.planning.memory import Memory
from kvplan.specs.calibration import Calibration
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source
from kvplan.units import HOUR, show_bytes, show_rate, show_time, show_tokens, show_usd

#: width of a report that is not on a terminal
PLAIN_WIDTH = 100


class Plain(Console):
    """A console to which all text is plain: no markup, no emoji codes, no links, and control characters written out.

    It is the one way to the terminal: what a file says is never obeyed.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console() -> Console:
    """Return where reports go: colour and the window's width on a terminal, plain and 100 columns elsewhere."""
    found = Plain()
    return found if found.is_terminal else Plain(width=PLAIN_WIDTH)


def grid(*columns: tuple[str, str], title: str = "") -> Table:
    """Return an empty table; a column is (heading, 'left', 'right', 'wrap' (at words) or 'fold' (anywhere))."""
    style = {
        "title_justify": "left",
        "title_style": "bold",
        "pad_edge": False,
        "show_edge": False,
        "padding": (0, 1, 0, 0),
    }
    table = Table(box=box.SIMPLE_HEAD, title=title, **style)  # type: ignore[arg-type]
    for heading, side in columns:
        justify: JustifyMethod = "right" if side == "right" else "left"
        wide = 14 if side == "wrap" else None  # words may wrap, not letters
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=side in ("left", "right"), min_width=wide)
    return table


def plain(lines: Iterable[str]) -> list[RenderableType]:
    """Return lines as they are, whatever they hold."""
    return [Text(line) for line in lines]


def notes(lines: Iterable[str], heading: str) -> list[RenderableType]:
    found = [line for line in lines if line]
    return (
        [Text(heading, style="bold"), *(Padding(Text(line), (0, 0, 0, 2)) for line in found), Text()] if found else []
    )


def estimate(e: Estimate) -> list[RenderableType]:
    """Return the report of `kvplan estimate`."""
    parts: list[RenderableType] = [
        Text(e.answer, style="bold"),
        *(Text(f"Note: {w}", style="yellow") for w in e.warnings),
    ]
    parts += [Text(standing(e), style="dim"), Text()]
    for site in e.sites:
        parts += [technique_table(e, site), Text()]
    parts += [Text(LEGEND, style="dim"), Text()]
    parts += notes(refusals(e.rows), "Not possible")
    if e.where:
        parts += where_table(e.where)
    parts += notes(dict.fromkeys(n for r in e.rows if r.feasible for n in r.needs), "What the techniques need")
    return [*parts, *notes(source_lines(e), "Sources")]


def standing(e: Estimate) -> str:
    """Say what each GPU's times and costs stand on, and the range to expect."""
    found = ["KV bytes follow exactly from the config."]
    for site in e.sites:
        c, where = site.calibration, f" on {site.gpu.name}" if len(e.sites) > 1 else ""
        tpot, ttft = (f"{r.low:.2f}x to {r.high:.2f}x" for r in (c.tpot, c.ttft))
        found.append(f"Times and costs{where} ({c.tier}): {c.doubt}.")
        found.append(f"Expect {tpot} of TPOT and cost, {ttft} of TTFT, 8 times in 10.")
    return " ".join(found)


def refusals(rows: Sequence[Row]) -> list[str]:
    """Return each reason once, behind the techniques it stands against."""
    found: dict[str, list[str]] = {}
    for r in rows:
        if r.reason:
            found.setdefault(r.reason, []).append(r.technique)
    return [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in found.items()]


TIMES = ("GPUs", "right"), ("seqs", "right"), ("TTFT", "right"), ("TPOT", "right"), ("$ / query", "right")


def technique_table(e: Estimate, site: Site) -> Table:
    """Return one GPU's rows: technique, memory, capacity, time, money, quality."""
    price = f", {show_usd(site.price.price * HOUR)} per GPU-hour" if site.price else ""
    title = f"{site.gpu.title}{price}: {e.query.prompt:,} tokens in, {e.query.output:,} out"
    headings = [("technique", "left"), ("KV / seq.", "right"), ("saved", "right"), *TIMES, ("LongBench loss", "wrap")]
    dropped = {"saved", "seqs"} if console().width < NARROW else set()
    table = grid(*(h for h in headings if h[0] not in dropped), title=title)

    def add(*cells: str, style: str = "") -> None:
        kept = (cell for cell, (heading, _) in zip(cells, headings, strict=True) if heading not in dropped)
        table.add_row(*kept, style=style)

    rows = [r for r in e.rows if r.gpu == site.gpu.name]
    cheapest = min((r.cost.per_query for r in rows if r.cost), default=None)
    for r in rows:
        if r.stored is None:
            add(r.technique, *["-"] * 7, "not for this model", style="dim")
        else:
            style = "green" if r.cost and r.cost.per_query == cheapest else "" if r.feasible else "dim"
            add(r.technique, show_bytes(r.stored), f"{r.reduction or 0:.0%}", *times(r), r.risk, style=style)
    return table


def times(r: Row) -> list[str]:
    """Return the cells of TIMES."""
    if not r.feasible:
        return ["does not fit", "-", "-", "-", "-"]
    gpus = f"{r.gpus}" if r.gpus == r.fewest_gpus else f"{r.gpus} ({r.fewest_gpus})"
    money = show_usd(r.cost.per_query) if r.cost else "no price"
    return [gpus, f"{r.sequences:,}", show_time(r.ttft or 0), show_time(r.tpot or 0), money]


LEGEND = (
    "GPUs: those of the replica that serves a query cheapest (in brackets the fewest that hold one sequence). "
    "seqs: how many it holds at once. TTFT, TPOT and $: the replica full, always busy, "
    "no prefix shared between queries."
)
#: columns below which a table leaves some of its own out
NARROW = 96
#: operators below this share of a step are left out of its table
TRIFLE = 0.0005
#: rows of the table of GPUs
SHOWN = 12


def where_table(rows: Sequence[Row]) -> list[RenderableType]:
    """Return the baseline on the GPUs that serve it cheapest."""
    fit = [r for r in rows if r.feasible and r.cost]
    order = sorted(fit, key=lambda r: r.cost.per_query if r.cost else 0.0)
    table = grid(("GPU", "left"), *TIMES, title="Uncompressed, by GPU")
    for r in order[:SHOWN]:
        table.add_row(r.gpu if r.grounded else f"{r.gpu} *", *times(r))
    rest = f"; {len(rows) - len(order[:SHOWN])} more GPUs in --json" if len(rows) > SHOWN else ""
    return [table, Text(f"* no server on this GPU was measured: its times are a guess{rest}", style="dim"), Text()]


def source_lines(e: Estimate) -> list[str]:
    """Return where a report's numbers come from, in short; `kvplan show` has the whole of it."""
    found = [f"model: {brief(e.model.source)}"]
    for site in e.sites:
        g, p = site.gpu, site.price
        found.append(f"{g.name}: bandwidth {brief(g.sources['bandwidth'])}" if "bandwidth" in g.sources else g.name)
        if p is None:
            found.append(f"price: none known for {g.name}; give one with --price")
        else:
            span = f"median of {len(site.offers)} on-demand offers, {show_usd(site.offers[0].price * HOUR)} to "
            span += f"{show_usd(site.offers[-1].price * HOUR)}; " if len(site.offers) > 1 else ""
            span = span if len(site.offers) > 1 else ""
            note = f"; {p.note}" if p.note else ""
            found.append(f"price: {span}{p.provider}, from {p.start}{note}; {brief(p.source)}")
    c, engine = e.sites[0].calibration, e.sites[0].engine
    found += [f"times: {s}" for s in c.sources]
    return [*found, f"memory rules: {engine.title}, {engine.version}; {engine.sources['sampler_bytes_per_logit']}"]


def brief(source: Source) -> str:
    """Return a source without the remarks in brackets after its reference, but for a second-hand one's."""
    ref = source.ref.split(" (")[0]
    second = " (second-hand)" if "second-hand" in source.ref and "second-hand" not in ref else ""
    return f"{source.kind}: {ref}{second} ({source.date})"


def explain(e: Estimate) -> list[RenderableType]:
    """Return each technique's memory equation with its numbers, and where its steps' time goes."""
    parts: list[RenderableType] = []
    for row in e.rows:
        if row.layout is None:
            continue
        heading = (
            f"{row.technique}: KV bytes = layers x kept tokens x vectors x width x bits / 8, "
            f"at {show_tokens(e.query.context)}"
        )
        parts += notes(equation(row.layout, e.query.context), heading)
        c = e.site(row).calibration
        if row.decode:
            many = f"{row.batch:,} sequences" if row.batch > 1 else "1 sequence"
            parts += [
                operator_table(
                    f"{row.technique}: one decode step on {row.parallel}, {many}", row.decode, c, row.each, False
                ),
                Text(),
            ]
            said = f"one of {row.chunks} parts of a prompt" if row.chunks > 1 else "one prompt"
            parts += [operator_table(f"{row.technique}: {said} on {row.parallel}", row.prefill, c, 0.0, True), Text()]
    return parts


def operator_table(title: str, found: Sequence[Operator], c: Calibration, sequences: float, prompts: bool) -> Table:
    """Return operator by operator: time, share, what binds it, and how much of its time is at that limit."""
    headings = [("operator", "left"), ("bytes / GPU", "right"), ("FLOP / GPU", "right"), ("time", "right")]
    table = grid(*headings, ("share", "right"), ("bound by", "left"), ("of limit", "right"), title=title)
    whole = step_time(found, c, sequences, prompts)
    for o in found:
        time = operator_time(o, c, prompts)
        if time / whole < TRIFLE:
            continue
        amounts = (show_bytes(o.message), "") if o.message else (show_bytes(o.bytes), show_rate(o.flops, "FLOP"))
        at_limit = f"{reach(o, c, prompts):.0%}"
        table.add_row(o.name, *amounts, show_time(time), f"{time / whole:.0%}", bound(o, c, prompts), at_limit)
    rest = overhead(c, sequences)
    table.add_row(ENGINE_ITSELF, "", "", show_time(rest), f"{rest / whole:.0%}", "overhead", "")
    table.add_row("total", "", "", show_time(whole), "100%", "", "", style="bold")
    return table


def memory(model: ModelSpec, m: Memory, explained: bool) -> list[RenderableType]:
    """Return the report of `kvplan memory`."""
    ask = m.ask
    what = f"{ask.batch} x {show_tokens(ask.context)} tokens ({ask.reading}, {ask.technique})"
    parts: list[RenderableType] = [Text(f"{model.title}: {show_bytes(m.total)} of KV cache for {what}", style="bold")]
    if m.reason:
        parts.append(Text(m.reason, style="red"))
    parts += [Text(), cache_table(m), Text(f"one token more adds {m.bytes_per_token:,.0f} B"), Text()]
    size = f"{model.parameters / 1e9:,.2f} B parameters ({model.active_parameters / 1e9:,.2f} B active per token)"
    parts += [
        Text(f"Weights: {size}, {show_bytes(m.weight_bytes)}"),
        *(Text(f"Note: {n}") for n in model.notes),
        Text(),
    ]
    if m.budget:
        room = f"room for {m.budget.kv_tokens:,} tokens: {m.sequences} sequences of {show_tokens(ask.context)}"
        parts += [budget_table(m.budget), Text(room), Text()]
    if explained:
        parts += notes(equation(m.layout, ask.context), "KV bytes = layers x kept tokens x vectors x width x bits / 8")
    return [*parts, *notes([f"model: {brief(model.source)}"], "Sources")]


def cache_table(m: Memory) -> Table:
    """Return the cache by kind of layer."""
    headings = ("layers", "left"), ("kind", "left"), ("tokens kept", "right"), ("bytes / layer", "right")
    table = grid(*headings, ("bytes", "right"), title="Cache by kind of layer")
    groups: dict[tuple[str, int, float], int] = {}
    for c in m.per_layer:
        groups[c.kind, c.tokens, c.bytes] = groups.get((c.kind, c.tokens, c.bytes), 0) + 1
    for (kind, tokens, size), count in groups.items():
        kept = f"{tokens:,}" if kind not in ("state", "shared") else "-"
        table.add_row(str(count), kind, kept, show_bytes(size), show_bytes(size * count))
    if m.padding > 0.5:
        table.add_row("", "padding layers", "", "", show_bytes(m.padding))
    return table


def budget_table(b: Budget) -> Table:
    """Return a GPU's memory, line by line."""
    headings = ("per GPU", "left"), ("bytes", "right"), ("share", "right"), ("", "wrap")
    table = grid(*headings, title="Memory budget of the fullest GPU")
    for line in b.lines:
        table.add_row(line.name, show_bytes(line.amount), f"{line.amount / b.total:.0%}", line.basis)
    table.add_row("total", show_bytes(b.total), "100%", "", style="bold")
    return table


def listing(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[RenderableType]:
    table = grid(*((h, "fold") for h in headings))
    for r in rows:
        table.add_row(*r)
    return [Text(title, style="bold"), table]


def fields(title: str, rows: Iterable[tuple[str, str, str]]) -> list[RenderableType]:
    """Return name and value of every field of one thing, each with the number of its source below."""
    found = list(rows)
    sources = list(dict.fromkeys(source for _, _, source in found))
    table = grid(("field", "left"), ("value", "wrap"), ("source", "right"), title=title)
    for field, value, source in found:
        table.add_row(field, value, f"[{sources.index(source) + 1}]")
    return [table, Text(), *notes((f"[{i}] {source}" for i, source in enumerate(sources, 1)), "Sources")]
