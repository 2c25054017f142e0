"""Power: what a GPU draws at work and waiting, and the energy of a query."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvplan.errors import SpecError
from kvplan.specs.hardware import Gpu
from kvplan.specs.line import Line
from kvplan.specs.money import Ownership
from kvplan.specs.source import Source
from kvplan.units import parse, show_percent

#: which probe of a measured profile stands for a part of a query
PROBES = {
    "prefill": "gemm", "decode weights": "copy", "decode KV": "copy", "communication": "copy", "overhead": "copy",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Power of one GPU."""

    busy: float  #: at work, on what `parts` does not name [W]
    idle: float  #: waiting with a model loaded [W]
    basis: str  #: where it comes from, in words
    measured: bool  #: False for shares of the datasheet's power
    source: Source  #: of the figures
    parts: Mapping[str, float] = field(default_factory=dict)  #: at work on a part of a query, by its name [W]

    def query(self, gpu_seconds: Any, prompt_share: Any, waiting: Any) -> Any:
        """Return the energy of a query from its GPU time, the share of it for the prompt, and the time GPUs wait. [J]

        Takes numbers or arrays; every part but the prompt is a decode step's.
        """
        working = prompt_share * self.at("prefill") + (1 - prompt_share) * self.at("decode KV")
        return gpu_seconds * working + waiting * self.idle

    def at(self, part: str | None) -> float:
        """Return the power while a part of a query runs, of a waiting GPU for None. [W]"""
        return self.idle if part is None else self.parts.get(part, self.busy)


def measured_draw(raw: Mapping[str, Any], source: Source, location: str) -> Draw:
    """Return the draw in the `energy` of a profile that `kvplan profile` wrote (values text).

    Prefill draws what its GEMM probe drew, everything in a decode step what the copy did, anything else the mean.
    """
    try:
        idle = parse(raw["idle"], "W", f"{location}: energy: idle")
        power = {
            probe: parse(raw[probe]["power"], "W", f"{location}: energy: {probe}: power") for probe in ("gemm", "copy")
        }
    except (KeyError, TypeError):
        raise SpecError(f"{location}: energy: expected idle, gemm: power and copy: power in watts") from None
    return Draw(
        busy=sum(power.values()) / len(power),
        idle=idle,
        basis=f"measured: GEMM {power['gemm']:.0f} W, copy {power['copy']:.0f} W, idle {idle:.0f} W",
        measured=True,
        source=source,
        parts={part: power[probe] for part, probe in PROBES.items()},
    )


def rated_draw(gpu: Gpu, assumed: Ownership) -> Draw | None:
    """Return shares of the datasheet's power, an assumption; None when the GPU's power is unknown."""
    if gpu.power is None:
        return None
    basis = (
        f"assumption: {show_percent(assumed.busy)} of {gpu.name}'s {gpu.power:g} W at work, "
        f"{show_percent(assumed.idle)} while idle"
    )
    return Draw(
        busy=assumed.busy * gpu.power,
        idle=assumed.idle * gpu.power,
        basis=basis,
        measured=False,
        source=assumed.sources["busy"],
    )


def query_energy(parts: Mapping[str, float], waiting: Mapping[str, float], draw: Draw) -> tuple[Line, ...]:
    """Return the energy of the GPUs for one query, a line a part, and one for those that wait. [J]

    `parts` are GPU seconds of a query by what they are for, `waiting` those of GPUs that do nothing, by why they are
    there. Servers and cooling are not in it.
    """
    watts = {part: draw.at(part) for part in parts} | dict.fromkeys(waiting, draw.idle)
    return tuple(
        Line(name=part, amount=seconds * watts[part], basis=f"{seconds:.3g} GPU-s at {watts[part]:.0f} W")
        for part, seconds in {**parts, **waiting}.items()
    )
