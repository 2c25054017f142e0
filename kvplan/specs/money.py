"""What owning a GPU takes, and what an API charges."""

from dataclasses import dataclass, field

from kvplan.specs.hardware import Price
from kvplan.specs.source import Source

#: field of an ownership file -> (its unit, the least and the greatest value it may have); '1' is a plain number
OWNERSHIP_FIELDS = {
    "life": ("s", 1.0, float("inf")),
    "residual": ("1", 0.0, 0.99),
    "interest": ("1", 0.0, 1.0),
    "utilization": ("1", 0.01, 1.0),
    "network": ("1", 0.0, 10.0),
    "electricity": ("USD/J", 0.0, 1.0),
    "pue": ("1", 1.0, 5.0),
    "host": ("1", 0.0, 10.0),
    "busy": ("1", 0.0, 1.5),
    "idle": ("1", 0.0, 1.5),
    "colocation": ("USD/W/s", 0.0, 1.0),
    "salary": ("USD/s", 0.0, 1e3),
    "gpus_per_person": ("1", 1.0, 1e6),
}
#: what each of them is
OWNERSHIP_MEANING = {
    "life": "time over which a server is written off",
    "residual": "share of the price it still fetches then",
    "interest": "of the capital, a year",
    "utilization": "share of its life a server is in service; the rest is installation and repair",
    "network": "switches, cables and storage, as a share of the servers' price",
    "electricity": "price of a kilowatt-hour at the meter",
    "pue": "power at the meter over power of the servers",
    "host": "power of a server beside its GPUs, over the GPUs' rated power",
    "busy": "power of a GPU at work, over its rated power, where none was measured",
    "idle": "power of a GPU waiting, over its rated power, where none was measured",
    "colocation": "space and cooling, by the server's greatest power, electricity apart",
    "salary": "of one person who runs the servers, all costs included",
    "gpus_per_person": "GPUs one person runs",
}


@dataclass(frozen=True, kw_only=True)
class ServerPrice:
    """A server or rack as bought: `price` USD for `gpus` GPUs; `power` is its greatest draw, None when unknown. [W]"""

    gpu: str
    price: float
    gpus: int
    power: float | None
    note: str
    source: Source

    @property
    def price_per_gpu(self) -> float:
        """USD per GPU of the server."""
        return self.price / self.gpus


@dataclass(frozen=True, kw_only=True, eq=False)
class Ownership:
    """What owning takes, in base units; OWNERSHIP_MEANING says what each field is, `sources` who gave it."""

    name: str
    title: str
    servers: tuple[ServerPrice, ...]
    life: float
    residual: float
    interest: float
    utilization: float
    network: float
    electricity: float
    pue: float
    host: float
    busy: float
    idle: float
    colocation: float
    salary: float
    gpus_per_person: float
    sources: dict[str, Source] = field(default_factory=dict, compare=False)

    def server(self, gpu: str) -> ServerPrice | None:
        """Return the server a GPU comes in, None when no price of one is known (never a zero)."""
        return next((s for s in self.servers if s.gpu == gpu), None)


@dataclass(frozen=True, kw_only=True)
class ApiPrice:
    """A dated list price of an API, USD per token, for prompts longer than `above` tokens.

    `cached` is the price of an input token found in the provider's cache; `serves` is the catalogue's name of the
    model, '' where its weights are not public. An unknown price is None.
    """

    provider: str
    model: str
    serves: str
    input: float | None
    output: float | None
    cached: float | None
    above: int
    start: str
    end: str | None
    note: str
    source: Source

    def current(self, day: str) -> bool:
        """Whether the price holds on a day (YYYY-MM-DD)."""
        return self.start <= day and (self.end is None or day < self.end)


def age(price: Price | ApiPrice | ServerPrice, day: str) -> int:
    """Return the days since a price was last seen, the date of its source."""
    return price.source.age(day)
