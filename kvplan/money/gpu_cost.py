"""What one GPU costs per second: rented at a price, or owned."""

from dataclasses import dataclass
from math import expm1, log1p
from typing import Any

from kvplan.money.draw import Draw, rated_draw
from kvplan.money.offers import caveat
from kvplan.specs.hardware import Gpu, Price
from kvplan.specs.line import Line
from kvplan.specs.money import Ownership, ServerPrice
from kvplan.units import HOUR, KWH, MONTH, YEAR, show_percent, show_usd

#: the line of an owned GPU that changes with what it does
POWER = "power"
#: interest over the whole life below which it is none
NO_INTEREST = 1e-12


@dataclass(frozen=True, kw_only=True)
class GpuCost:
    """The cost of one GPU: what it costs whatever it does, and for an owned one the electricity it draws."""

    fixed: tuple[Line, ...]  #: whatever it does [USD/s]
    caveats: tuple[str, ...] = ()  #: what the price hides
    tariff: float = 0.0  #: of electricity for the server, PUE included [USD/J]
    host: float = 0.0  #: the server's power beside its GPUs, a GPU's part [W]
    draw: Draw | None = None  #: the GPU's own power, None for a rented one [W]
    power_basis: str = ""  #: where the line of electricity comes from, in words
    host_memory: float | None = None  #: memory of its server, a GPU's part, None where nobody says [B]
    unit: int = 1  #: GPUs that are paid for together: those of a server, or the fewest an offer lets

    def whole(self, gpus: Any) -> Any:
        """Return the GPUs that are paid for where so many are needed, a number or an array: whole servers."""
        return -(-gpus // self.unit) * self.unit

    def power(self, part: str | None) -> float:
        """Return the electricity of a GPU running a part of a query, waiting for None. [USD/s]"""
        return self.tariff * (self.host + self.draw.at(part)) if self.draw else 0.0

    def rate(self, part: str | None = "") -> float:
        """Return all of one GPU: at work, running a named part of a query, or waiting for None. [USD/s]"""
        return sum(line.amount for line in self.fixed) + self.power(part)


def rent(price: Price) -> GpuCost:
    """Return the cost of a rented GPU; power, space and interest are the provider's."""
    terms = f"{show_usd(price.price * HOUR)} per GPU-hour, {price.provider} {price.term}, from {price.start}"
    warning = caveat(price.term)
    line = Line(name="rent", amount=price.price, basis=f"{terms}{f' ({warning})' if warning else ''}; {price.source}")
    caveats: tuple[str, ...] = (f"{price.term}: {warning}",) if warning else ()
    if price.gpus > 1:
        caveats += (f"let in servers of {price.gpus} GPUs",)
    return GpuCost(
        fixed=(line,), caveats=caveats, unit=price.gpus,
        host_memory=price.host_memory,
    )  # fmt: skip


def annuity(principal: float, rate: float, periods: float, residual: float = 0.0) -> float:
    """Return the equal payment at the end of each period that repays a loan down to a residual value. [USD]

    1000 at 5 % over 10 years takes 129.50 a year; at 0 % it is the principal less the residual, divided.

    Source: the annuity formula, payment = (P - R) i / (1 - (1 + i)^-n) + R i.
    """
    if rate * periods < NO_INTEREST:
        return (principal - residual) / periods
    return (principal - residual) * rate / -expm1(-periods * log1p(rate)) + residual * rate


def own(gpu: Gpu, terms: Ownership, draw: Draw | None = None) -> GpuCost | None:
    """Return the cost of an owned GPU, None when no price of a server with it is known, or its power is not.

    Capital, network, interest, colocation and staff fall due whether it works or waits, and are divided by the share
    of its life it is in service. Only electricity follows the work.
    """
    server = terms.server(gpu.name)
    power = draw or rated_draw(gpu, terms)
    if server is None or power is None or gpu.power is None:
        return None
    greatest = greatest_draw(gpu, server, terms)
    tariff = terms.electricity * terms.pue
    basis = f"{power.basis}; {greatest - gpu.power:.0f} W of server beside it, PUE {terms.pue:g}"
    return GpuCost(
        fixed=_fixed(server, greatest, terms),
        caveats=(f"owned: paid for {terms.life / YEAR:g} years whether used or not",),
        tariff=tariff,
        host=greatest - gpu.power,
        draw=power,
        power_basis=f"{basis}, {terms.electricity * KWH:.3g} USD/kWh ({terms.sources['electricity']})",
        unit=server.gpus,
        host_memory=server.host_memory / server.gpus if server.host_memory else None,
    )


def greatest_draw(gpu: Gpu, server: ServerPrice, terms: Ownership) -> float:
    """Return a GPU's share of its server's greatest power. [W]"""
    rated = gpu.power or 0.0
    return max(server.power / server.gpus, rated) if server.power else rated * (1 + terms.host)


def _fixed(server: ServerPrice, greatest: float, t: Ownership) -> tuple[Line, ...]:
    price = server.price_per_gpu
    years = t.life / YEAR
    span = f"over {years:g} years, available {show_percent(t.utilization)} of the time"
    capital = price * (1 + t.network)
    # what repays the loan is capital; what it costs beyond that is interest
    payment = annuity(capital, t.interest, years, capital * t.residual)
    interest = payment - capital * (1 - t.residual) / years
    residual = f", resale value {show_percent(t.residual)}" if t.residual else ""
    invoice = f"{server.price:,.0f} USD for {server.gpus} GPUs"
    yearly = 1 / (YEAR * t.utilization)
    return (
        Line(
            name="capital",
            amount=price * (1 - t.residual) / years * yearly,
            basis=f"{invoice} {span}{residual}; {server.source}",
        ),
        Line(
            name="network",
            amount=price * t.network * (1 - t.residual) / years * yearly,
            basis=f"{show_percent(t.network)} of the server's price {span}; {t.sources['network']}",
        ),
        Line(
            name="interest",
            amount=interest * yearly,
            basis=f"{show_percent(t.interest, 1)} a year on {capital:,.0f} USD a GPU, annuity {span}; "
            f"{t.sources['interest']}",
        ),
        Line(
            name="colocation",
            amount=t.colocation * greatest / t.utilization,
            basis=f"{greatest:.0f} W a GPU at {1e3 * t.colocation * MONTH:.0f} USD/kW/month; {t.sources['colocation']}",
        ),
        Line(
            name="staff",
            amount=t.salary / t.gpus_per_person / t.utilization,
            basis=f"{t.salary * YEAR:,.0f} USD a year for {t.gpus_per_person:g} GPUs; {t.sources['salary']}",
        ),
    )
