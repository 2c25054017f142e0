"""Reading what conventions makers of quantised uploads keep to, of the shelf."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from kvplan.architectures.formats import FORMATS, UPLOADED
from kvplan.catalog.fields import (
    ValueRange,
    count,
    listed,
    mapping,
    number,
    one_of,
    shelf_rows,
    text,
)
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError
from kvplan.specs.source import Source

FIELDS = ("maker", "group", "bits", "other", "cached", "keeps", "source")
#: elements that may share a scale
GROUP = ValueRange(8, 1024)
#: bits an element may take
BITS = ValueRange(1.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What the names of a maker's uploads do not say."""

    group: int | None = None  #: elements that share a scale in its 4-bit integers, None: as the name says
    bits: Mapping[str, float] = field(default_factory=dict)  #: format -> what an element takes in it [bit]
    other: tuple[str, ...] = ()  #: ends of names, without the dash, whose uploads are not what `bits` says
    cached: tuple[str, ...] = ()  #: formats in which its uploads fix a cache of 8 bits
    keeps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: format -> modules left in 16 bits
    source: Source | None = None  #: None: nothing is known of it


def maker(word: str) -> Maker:
    """Return the conventions of who made an upload, as in 'RedHatAI/Qwen3-32B-NVFP4'; none where none are known."""
    return _makers().get(word.lower().partition("/")[0], Maker())


@cache
def _makers() -> dict[str, Maker]:
    return {named: made for name in names("makers") for named, made in maker_file(name).items()}


def maker_file(word: str) -> dict[str, Maker]:
    """Return the rows of one file of makers, by name or path; raise SpecError where it cannot be understood."""
    found: dict[str, Maker] = {}
    for row, place, source in shelf_rows("makers", word, FIELDS, ("maker",)):
        named = text(row, "maker", place)
        if named != named.lower() or named in found:
            raise SpecError(f"{place}: maker: one row each, in lower case, got {named!r}")
        formats = (*FORMATS, *UPLOADED)
        keeps = mapping(row.get("keeps") or {}, f"{place}: keeps", "{nvfp4: [linear_attn]}")
        found[named] = Maker(
            group=count(row["group"], f"{place}: group", GROUP) if "group" in row else None,
            bits={
                one_of(form, f"{place}: bits", formats): number(bits, f"{place}: bits: {form}", BITS)
                for form, bits in mapping(row.get("bits") or {}, f"{place}: bits", "{bnb-4bit: 4.127}").items()
            },
            other=tuple(map(str, listed(row.get("other") or [], f"{place}: other"))),
            cached=tuple(one_of(one, f"{place}: cached", formats) for one in row.get("cached") or ()),
            keeps={
                one_of(form, f"{place}: keeps", formats): tuple(map(str, listed(kept, f"{place}: keeps: {form}")))
                for form, kept in keeps.items()
            },
            source=source,
        )
    return found
