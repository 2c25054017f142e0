"""Owning a GPU in words, tables and JSON: what owning takes, and what an hour of an owned GPU then costs."""

from collections.abc import Iterator, Sequence

from kvplan.money.bill import kinds_of
from kvplan.money.gpu_cost import own
from kvplan.money.offers import old
from kvplan.report.blocks import Block, Column, Json, Page, Text, records, schema, table, warned
from kvplan.report.fields import Field, field_blocks
from kvplan.report.sources import source
from kvplan.specs.hardware import Gpu
from kvplan.specs.line import Line
from kvplan.specs.money import OWNERSHIP_FIELDS, OWNERSHIP_MEANING, Ownership, ServerPrice, age
from kvplan.specs.money import stale as is_old
from kvplan.units import HOUR, KWH, MONTH, YEAR, show_usd

#: how a figure of owning is written: unit -> (factor, name)
SPELLING = {
    "s": (1 / YEAR, "years"),
    "USD/J": (KWH, "USD/kWh"),
    "USD/W/s": (1e3 * MONTH, "USD/kW/month"),
    "USD/s": (YEAR, "USD/year"),
    "1": (1.0, ""),
}
#: a line of what a GPU costs [USD/s], as USD an hour
HOURLY = (
    Column[Line](key="name", heading="per busy GPU-hour", value=lambda x: x.name, align="left"),
    Column[Line](key="usd", heading="USD", value=lambda x: x.amount * HOUR, show=show_usd),
    Column[Line](key="basis", value=lambda x: x.basis),
)


def page(terms: Ownership, gpus: Sequence[Gpu], day: str, stale: int) -> Page:
    """Return what owning takes with sources, and what an hour of each GPU with a known server price then costs."""
    servers = [server_field(s) for s in terms.servers]
    return Page.of(
        field_blocks(terms.title, [*(figure_field(terms, name) for name in OWNERSHIP_FIELDS), *servers]),
        *(hour_blocks(gpu, terms, day, stale) for gpu in gpus),
    )


def figure_field(terms: Ownership, name: str) -> Field:
    """Return a figure of owning with its unit, meaning and source."""
    factor, word = SPELLING[OWNERSHIP_FIELDS[name][0]]
    value = f"{getattr(terms, name) * factor:,.6g} {word}".strip()
    return Field(name, f"{value}: {OWNERSHIP_MEANING[name]}", str(terms.sources[name]))


def server_field(s: ServerPrice) -> Field:
    """Return the price of a server with its GPUs, power and source."""
    power = f", {s.power:,.0f} W" if s.power else ""
    note = f"; {s.note}" if s.note else ""
    return Field(s.gpu, f"{s.price:,.0f} USD for {s.gpus} GPUs{power}", f"{s.source}{note}")


def hour_blocks(gpu: Gpu, terms: Ownership, day: str, stale: int) -> Iterator[Block]:
    """Yield what an hour of an owned GPU costs, line by line, and whether its server's price is old."""
    server = terms.server(gpu.name)
    if server and (warning := old(server, day, stale)):
        yield from warned([warning])
    if (cost := own(gpu, terms)) is not None:
        yield table(gpu.name, HOURLY, kinds_of(cost, ""), total=("total", show_usd(cost.rate() * HOUR)))
        yield Text(f"An idle {gpu.name} costs {show_usd(cost.rate(None) * HOUR)} per GPU-hour.", "quiet")


def document(terms: Ownership, gpus: Sequence[Gpu], day: str, stale: int) -> Json:
    """Return what owning takes, every figure with its source, and what an hour of each GPU then costs."""
    return schema(
        "prices",
        on=day,
        stale_after_days=stale,
        ownership=terms.name,
        figures={name: figure(terms, name) for name in OWNERSHIP_FIELDS},
        servers=[server(s, day, stale) for s in terms.servers],
        gpu_hours={g.name: hour for g in gpus if (hour := owned_hour(g, terms)) is not None},
    )


def figure(terms: Ownership, name: str) -> Json:
    """Return a figure of owning as a JSON object."""
    return {
        "value": getattr(terms, name),
        "unit": OWNERSHIP_FIELDS[name][0],
        "meaning": OWNERSHIP_MEANING[name],
        "source": source(terms.sources[name]),
    }


def server(s: ServerPrice, day: str, stale: int) -> Json:
    """Return the price of a server as a JSON object."""
    return {
        "gpu": s.gpu,
        "usd": s.price,
        "gpus": s.gpus,
        "watts": s.power,
        "note": s.note,
        "age_days": age(s, day),
        "stale": is_old(s, day, stale),
        "source": source(s.source),
    }


def owned_hour(gpu: Gpu, terms: Ownership) -> Json | None:
    """Return USD for an hour of an owned GPU, at work and waiting, with its lines; None when unknown."""
    cost = own(gpu, terms)
    if cost is None:
        return None
    lines = records(HOURLY, kinds_of(cost, ""))
    return {"usd_at_work": cost.rate() * HOUR, "usd_waiting": cost.rate(None) * HOUR, "lines": lines}
