"""Today's prices through gpuhunt, a maintained catalogue of cloud offers, where it is installed and online."""

import logging
from collections.abc import Iterable
from importlib import import_module
from typing import Protocol

from kvplan.catalog.hardware.instances import family_gpu
from kvplan.errors import SpecError
from kvplan.specs.hardware import Price
from kvplan.specs.source import Source
from kvplan.units import HOUR

#: gpuhunt's name and GB of a GPU -> ours
NAMES = {
    ("A100", 40): "a100-40gb-sxm", ("H100NVL", 94): "h100-nvl", ("H200", 141): "h200", ("B200", 180): "b200",
    ("B200", 192): "b200", ("B300", 288): "b300", ("GB200", 192): "gb200", ("L4", 24): "l4", ("L40S", 48): "l40s",
    ("A10G", 24): "a10g", ("T4", 16): "t4", ("V100", 16): "v100-16gb", ("V100", 32): "v100-32gb",
    ("RTX4090", 24): "rtx-4090", ("RTX5090", 32): "rtx-5090", ("MI300X", 192): "mi300x", ("MI325X", 256): "mi325x",
}  # fmt: skip
#: GPUs sold on an SXM board and on a PCIe card, which gpuhunt calls alike: (SXM, PCIe)
FORMS = {("H100", 80): ("h100-sxm", "h100-pcie"), ("A100", 80): ("a100-80gb-sxm", "a100-80gb-pcie")}
#: words of a name that tell which, where the shelf of instances has none of that name
SXM, PCIE = ("sxm", "hbm3"), ("pcie",)


class Offer(Protocol):
    """The fields of gpuhunt's CatalogItem that are read: `price` is USD an hour for the whole instance."""

    provider: str
    instance_name: str
    location: str
    price: float
    gpu_count: int
    gpu_name: str | None
    gpu_memory: float | None
    spot: bool


def gpu_of(offer: Offer) -> str | None:
    """Return our name of an offer's GPU, None when it is none of ours or its form is not stated."""
    key = offer.gpu_name or "", round(offer.gpu_memory or 0)
    instance = (offer.instance_name or "").lower()
    if key in FORMS:
        sxm, pcie = FORMS[key]
        if (known := family_gpu(instance)) in (sxm, pcie):
            return known
        if any(word in instance for word in PCIE):
            return pcie
        return sxm if any(word in instance for word in SXM) else None
    if "pcie" in instance and key[0] in ("A100", "V100"):
        return None  # a card the shelf does not have
    return NAMES.get(key)


def cheapest(offers: Iterable[Offer], day: str) -> tuple[list[Price], int]:
    """Return the cheapest offer per provider, GPU and term as dated prices, and how many offers were left out."""
    groups: dict[tuple[str, str, str], list[Offer]] = {}
    left_out = 0
    for offer in offers:
        name = gpu_of(offer)
        if name is None or not offer.gpu_count or not offer.price or offer.price <= 0:
            left_out += 1
            continue
        term = "spot" if offer.spot else "on-demand"
        groups.setdefault((name, offer.provider, term), []).append(offer)
    source = source_of(day)
    prices = []
    for (name, provider, term), rows in sorted(groups.items()):
        best = min(rows, key=lambda o: o.price / o.gpu_count)
        note = f"cheapest of {len(rows)}: {best.instance_name}, {best.location}, {best.price:g} / {best.gpu_count}"
        price = best.price / best.gpu_count / HOUR
        prices.append(
            Price(gpu=name, provider=provider, term=term, price=price, start=day, end=None, note=note, source=source)
        )
    return prices, left_out


def source_of(day: str) -> Source:
    """Return the source of offers seen on a day (YYYY-MM-DD)."""
    return Source(kind="quote", ref="gpuhunt's catalogue of cloud offers, dstackai/gpuhunt", date=day)


def online(day: str) -> tuple[list[Price], int]:
    """Return today's prices and how many offers were left out; raise SpecError without gpuhunt or a connection."""
    try:
        gpuhunt = import_module("gpuhunt")
    except ImportError:
        raise SpecError(
            "prices are refreshed through gpuhunt, which is not installed: pip install 'kvplan[prices]'"
        ) from None
    logging.getLogger("gpuhunt").setLevel(logging.ERROR)  # it warns of providers that need a key
    try:
        offers = gpuhunt.query(min_gpu_count=1)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"gpuhunt could not load prices ({error}); is this machine online?") from None
    return cheapest(offers, day)
