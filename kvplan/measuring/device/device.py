"""A device to measure, whatever it is: its timer, what it can be asked for, and what a profile says about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvplan.errors import KvplanError
from kvplan.measuring.device.course import Timer
from kvplan.measuring.device.probes import Probe


class DeviceError(KvplanError):
    """A device or what drives it is missing or unusable."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device to measure, open until it is closed."""

    kind: str  #: "cuda" or "cpu"
    name: str  #: as the device calls itself
    timer: Timer  #: times its probes
    probes: list[Probe]  #: what it can be asked for
    anchors: tuple[Probe, ...]  #: probes repeated all along, which show drift
    facts: dict[str, str]  #: what a profile says about it: name -> text
    label: str  #: what is measured, in words
    remark: str = ""  #: for the user, in one line
    reserve: float = 2.0  #: time to keep for the fit [s]
    more: Callable[[], dict[str, Any]] = dict  #: what else is measured after the last sample, as fields of the profile
    energy: bool = False  #: whether that is energy, which the device counts
    close: Callable[[], None] = lambda: None  #: to be called after the last sample
