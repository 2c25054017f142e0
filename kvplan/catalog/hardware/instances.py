"""Reading which GPUs instances of clouds hold, of the shelf."""

import re
from dataclasses import dataclass
from functools import cache

from kvplan.catalog.fields import ValueRange, count, listed, shelf_rows, text
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, shown
from kvplan.specs.source import Source
from kvplan.units import show_count

FIELDS = ("gpu", "count", "types", "source")
#: GPUs of one instance
COUNT = ValueRange(1, 72)
#: how clouds write an instance, its family around its size: p5.48xlarge, g2-standard-24, ND96isr_H100_v5, gpu_8x_v100
_SIZED = (
    re.compile(r"(?P<family>n[cdv])(?P<size>\d+)[a-z]*(?:_ndr)?(?P<rest>_\w+)"),
    re.compile(r"(?P<family>gpu_)(?P<size>\d+)x_(?P<rest>\w+)"),
    re.compile(r"(?P<family>[a-z]\w*-[a-z]+)-(?P<size>\d+)g?(?:-metal)?(?P<rest>)"),
    re.compile(r"(?P<family>[\w.-]+)\.(?P<size>[\w-]+)(?P<rest>)"),
)
#: what may stand before an instance's name: Azure's own, and SageMaker's
_BEFORE = re.compile(r"^(?:standard[_ ]|ml\.)")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """GPUs that one instance of a cloud holds."""

    name: str  #: as its cloud writes it
    gpu: str  #: on the shelf of GPUs
    count: int  #: of those GPUs
    source: Source  #: of the row


def instance(word: str) -> str:
    """Return the GPU that an instance of a cloud holds, or all of a family (ND_H100_v5); '' for what is none.

    Raises SpecError for a size that its family does not have, naming the nearest.
    """
    asked = _bare(word)
    known = _instances()
    if asked in known:
        return known[asked].gpu
    family, size = _parted(asked)
    sizes = [one for name, one in known.items() if _parted(name)[0] == family]
    if sizes:
        nearest = min(sizes, key=lambda one: abs(_number(_parted(one.name.lower())[1]) - _number(size)))
        raise SpecError(
            f"{shown(word)}: kvplan knows no such size of that instance; nearest: {nearest.name}, with "
            f"{show_count(nearest.count, 'GPU')}; known: {', '.join(one.name for one in sizes)}"
        )
    whole = {one.gpu for name, one in known.items() if _parted(name)[0] == asked}
    return whole.pop() if len(whole) == 1 else ""


def family_gpu(word: str) -> str:
    """Return the GPU that all known sizes of an instance's family hold; '' where none is known or they differ."""
    family = _parted(_bare(word))[0]
    held = {one.gpu for name, one in _instances().items() if family and _parted(name)[0] == family}
    return held.pop() if len(held) == 1 else ""


def _bare(word: str) -> str:
    """Return an instance's name as it is compared: lower case, nothing of its cloud before it."""
    return _BEFORE.sub("", word.strip().lower()).replace(" ", "_")


def _parted(name: str) -> tuple[str, str]:
    """Return the family of an instance and its size, as in ('p5', '48xlarge'); ('', '') for what is no instance."""
    match = next((match for pattern in _SIZED if (match := pattern.fullmatch(name))), None)
    return (match["family"] + match["rest"], match["size"]) if match else ("", "")


def _number(size: str) -> int:
    digits = re.search(r"\d+", size)
    return int(digits[0]) if digits else 1  # 'xlarge' is the smallest


@cache
def _instances() -> dict[str, Instance]:
    return {one.name.lower(): one for name in names("instances") for one in instance_file(name)}


def instance_file(word: str) -> tuple[Instance, ...]:
    """Return the instances of one file, by name or path; raise SpecError where it cannot be understood."""
    found: list[Instance] = []
    for row, place, source in shelf_rows("instances", word, FIELDS, ("gpu", "count", "types")):
        gpu, gpus = text(row, "gpu", place), count(row["count"], f"{place}: count", COUNT)
        types = listed(row["types"], f"{place}: types")
        found += [Instance(name=str(one), gpu=gpu, count=gpus, source=source) for one in types]
    return tuple(found)
