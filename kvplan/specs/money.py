"""What owning a GPU takes, and what an API charges."""

from dataclasses import dataclass, field
from math import inf

from kvplan.specs.fields import about, described
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source


@dataclass(frozen=True, kw_only=True)
class ServerPrice:
    """A price of a server or rack."""

    gpu: str  #: name in the catalogue of the GPU it holds
    price: float  #: of the whole server [USD]
    gpus: int  #: GPUs in it
    power: float | None  #: its greatest draw, None when unknown [W]
    host_memory: float | None  #: memory beside its GPUs, None when unknown [B]
    note: str  #: a remark for the reader
    source: Source  #: where it was seen

    @property
    def price_per_gpu(self) -> float:
        """USD per GPU of the server."""
        return self.price / self.gpus


@dataclass(frozen=True, kw_only=True, eq=False)
class Ownership:
    """What owning takes, in base units."""

    name: str  #: of the file
    title: str  #: as reports print it
    servers: tuple[ServerPrice, ...]  #: prices of servers, the first of a GPU counts
    life: float = field(metadata=about("time over which a server is written off", "s", low=1.0, high=inf))
    residual: float = field(metadata=about("share of the price it still fetches then", "1", low=0.0, high=0.99))
    interest: float = field(metadata=about("of the capital, a year", "1", low=0.0, high=1.0))
    utilization: float = field(
        metadata=about(
            "share of its life a server is in service; the rest is installation and repair", "1", low=0.01, high=1.0
        )
    )
    network: float = field(
        metadata=about("switches, cables and storage, as a share of the servers' price", "1", low=0.0, high=10.0)
    )
    electricity: float = field(metadata=about("price of a kilowatt-hour at the meter", "USD/J", low=0.0, high=1.0))
    pue: float = field(metadata=about("power at the meter over power of the servers", "1", low=1.0, high=5.0))
    host: float = field(
        metadata=about("power of a server beside its GPUs, over the GPUs' rated power", "1", low=0.0, high=10.0)
    )
    busy: float = field(
        metadata=about("power of a GPU at work, over its rated power, where none was measured", "1", low=0.0, high=1.5)
    )
    idle: float = field(
        metadata=about("power of a GPU waiting, over its rated power, where none was measured", "1", low=0.0, high=1.5)
    )
    colocation: float = field(
        metadata=about(
            "space and cooling, by the server's greatest power, electricity apart", "USD/W/s", low=0.0, high=1.0
        )
    )
    salary: float = field(
        metadata=about("of one person who runs the servers, all costs included", "USD/s", low=0.0, high=1000.0)
    )
    gpus_per_person: float = field(metadata=about("GPUs one person runs", "1", low=1.0, high=1000000.0))
    sources: dict[str, Source] = field(default_factory=dict, compare=False)  #: who gave each figure

    def server(self, gpu: str) -> ServerPrice | None:
        """Return the server a GPU comes in, None when no price of one is known (never a zero)."""
        return next((s for s in self.servers if s.gpu == gpu), None)


#: field of an ownership file -> (its unit, the least and the greatest value it may have); '1' is a plain number
OWNERSHIP_FIELDS = {name: (meta["unit"], meta["low"], meta["high"]) for name, meta in described(Ownership).items()}
#: what each of them is
OWNERSHIP_MEANING = {name: meta["meaning"] for name, meta in described(Ownership).items()}


@dataclass(frozen=True, kw_only=True)
class ApiPrice:
    """A dated list price of an API. An unknown price is None."""

    provider: str  #: who serves it
    model: str  #: the provider's name of the model
    serves: str  #: the catalogue's name of the model, '' where its weights are not public
    input: float | None  #: of an input token [USD/token]
    output: float | None  #: of an output token [USD/token]
    cached: float | None  #: of an input token found in the provider's cache [USD/token]
    above: int  #: holds for prompts longer than this [token]
    start: str  #: first day it holds, YYYY-MM-DD
    end: str | None  #: first day it no longer holds, None while it does
    note: str  #: a remark for the reader
    source: Source  #: where it was seen

    def current(self, day: str) -> bool:
        """Whether the price holds on a day (YYYY-MM-DD)."""
        return self.start <= day and (self.end is None or day < self.end)


def age(price: Price | ApiPrice | ServerPrice, day: str) -> int | None:
    """Return the days since a price was last seen, the date of its source; None where that has none."""
    return price.source.age(day)


def stale(price: Price | ApiPrice | ServerPrice, day: str, limit: int) -> bool:
    """Return whether a price was last seen more than `limit` days before a day; one without a date counts as old."""
    days = age(price, day)
    return days is None or days > limit
