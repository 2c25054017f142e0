"""What every question of planning is made of: a query, a place to serve it, and the limits it must keep."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kvplan.errors import SpecError
from kvplan.kv.deployment import Deployment, Running
from kvplan.kv.replica import Parallel
from kvplan.kv.tiers import TIERS, Tier, beside
from kvplan.money.offers import median_offer, upper_end
from kvplan.specs.calibration import Calibration
from kvplan.specs.hardware import Engine, Gpu, Price

if TYPE_CHECKING:
    from kvplan.money.draw import Draw
    from kvplan.money.gpu_cost import GpuCost


#: what a recommendation makes small
OBJECTIVES = ("cost", "energy", "gpus", "latency")
#: how sure the latency limits must be kept where nobody says
CONFIDENCE = 0.9
#: the least odds at which a plan is given unasked: those of a coin
EVEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Query:
    """One request: `context` tokens in all, the last `output` of them generated."""

    context: int  #: prompt and output [token]
    output: int  #: generated [token]

    def __post_init__(self) -> None:
        if self.context < 2:
            raise SpecError("context: must be at least 2 tokens, one in and one out")
        if self.output >= self.context:
            left = f"{self.output:,} tokens leave no prompt in a context of {self.context:,}"
            raise SpecError(f"output: {left}; ask for fewer")

    @property
    def prompt(self) -> int:
        """Tokens that are read. [token]"""
        return self.context - self.output


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a model is served: a GPU, its rates, an engine, and prices."""

    gpu: Gpu  #: its memory, bandwidth, FLOP rates and power
    calibration: Calibration  #: its measured or transferred rates
    engine: Engine  #: its memory rules and options
    #: rents of the day, the cheapest first
    offers: tuple[Price, ...] = ()
    #: cost of an owned GPU, instead of a rent
    owned: "GpuCost | None" = None
    #: the GPU's power, None where unknown
    draw: "Draw | None" = None
    #: what offers cost over the median of their GPU on the day, of all GPUs with several, in order
    typical: tuple[float, ...] = (1.0,)
    #: factor on the price while GPUs are compared, above 1 where it rests on one offer
    margin: float = 1.0
    #: what the user fixed, None where the planner may choose
    parallel: Parallel | None = None
    weights: str | None = None  #: weight format, None for the checkpoint's own
    utilization: float | None = None  #: share of GPU memory the engine may use, None for its default
    running: Running = field(default_factory=Running)  #: options of the engine that change its memory

    def deployment(self, parallel: Parallel) -> Deployment:
        """Return the engine on the GPU with these options, a replica spread so; it frees what techniques evict."""
        return Deployment(
            engine=self.engine, gpu=self.gpu, parallel=parallel, weights=self.weights, utilization=self.utilization,
            compacts=True, **vars(self.running),
        )  # fmt: skip

    @cached_property
    def price(self) -> Price | None:
        """The offer that stands for a rented GPU, None without one."""
        return None if self.owned else median_offer(self.offers)

    @cached_property
    def cost(self) -> "GpuCost | None":
        """What the GPU costs, rented or owned; None where no price is known."""
        from kvplan.money.gpu_cost import rent

        return self.owned or (rent(self.price) if self.price else None)

    def tier(self, name: str) -> Tier | None:
        """Return a tier beside the GPU, its room that of the host memory which its price states; None for no tier."""
        tier = TIERS.get(name)
        return beside(tier, self.cost.host_memory if self.cost else None) if tier else None

    @property
    def rated(self) -> bool:
        """Whether it may be recommended unasked: servers on it were measured, or the user gave its price."""
        return self.calibration.grounded or (self.price is not None and self.price.yours)

    @property
    def lone_offer(self) -> bool:
        """Whether the price rests on one offer, not on several nor on the user's word."""
        return self.price is not None and len(self.offers) == 1 and not self.price.yours

    @property
    def price_factors(self) -> tuple[float, ...]:
        """What offers cost over the price that is used, in order: the day's, a typical spread where there is one."""
        if self.price is None:
            return (1.0,)
        return self.typical if self.lone_offer else tuple(p.price / self.price.price for p in self.offers)

    def compared(self) -> "Site":
        """Return the site as it is compared with others: a lone offer at the upper end of a typical spread."""
        return replace(self, margin=upper_end(self.typical)) if self.lone_offer else self


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a plan must keep; None where there is no limit."""

    #: latency limits at the percentile: TTFT, TPOT, end-to-end time [s]
    ttft: float | None = None
    tpot: float | None = None  #: [s/token]
    e2e: float | None = None  #: [s]
    #: share of requests that keep the latency limits
    percentile: float = 0.95
    #: greatest loss of quality, as a share
    quality: float | None = None
    #: GPUs that are available
    gpus: int | None = None
    #: least probability that the latency limits are kept
    confidence: float = 0.5
    #: whether techniques may be used that the engine does not serve
    any_technique: bool = False

    @property
    def times(self) -> tuple[tuple[str, float], ...]:
        """(name, limit [s]) of the latency limits that are set."""
        pairs = (("TTFT", self.ttft), ("TPOT", self.tpot), ("end to end", self.e2e))
        return tuple((name, limit) for name, limit in pairs if limit is not None)
