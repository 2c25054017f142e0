"""Reading how published serving benchmarks' scripts set an engine's scheduler, of the shelf of recipes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from kvplan.catalog.fields import (
    ValueRange,
    count,
    day,
    listed,
    number,
    one_of,
    read_source,
    required,
    shelf_document,
    text,
    yes,
)
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, shown
from kvplan.specs.recipes import Benchmark, Recipe

FIELDS = ("name", "title", "source", "collection", "unnamed", "begun", "warmed", "margin", "rows")
#: fields of a row that are numbers, and what they may be: decode steps and requests, prompts, tokens
STEPS, TOKENS = ValueRange(1, 1e5), ValueRange(1, 1e7)
NUMBERS = {
    "few": STEPS, "many": STEPS, "hold": STEPS, "crowd": STEPS, "waves": STEPS, "prompts": STEPS, "budget": TOKENS,
}  # fmt: skip
#: parallel ranks
RANKS = ValueRange(1, 1000)
#: width of weights [bit]
BITS = ValueRange(0, 32)
ROW = (
    "scripts", "engine", "architectures", "gpus", "models", "formats", "since", "until", "ranks", "tensor", "lengths",
    "decoding", *NUMBERS,
)  # fmt: skip


@cache
def benchmarks() -> tuple[Benchmark, ...]:
    """Return the benchmarks whose scripts are known; raise SpecError where a file cannot be understood."""
    return tuple(benchmark_file(name) for name in names("recipes"))


def benchmark_file(word: str) -> Benchmark:
    """Return the benchmarks of one file, by name or path; raise SpecError where it cannot be understood."""
    raw, name, location = shelf_document("recipes", word, "recipes")
    source = read_source(raw.get("source"), location)
    required(raw, FIELDS, ("collection", "begun", "warmed", "rows"), location)
    margin = number(raw.get("margin", 0), f"{location}: margin", ValueRange(0, TOKENS.most))
    rows = listed(raw["rows"], f"{location}: rows")
    return Benchmark(
        name=name,
        collection=text(raw, "collection", location),
        unnamed="unnamed" in raw and yes(raw["unnamed"], f"{location}: unnamed"),
        begun=day(raw["begun"], f"{location}: begun"),
        warmed=day(raw["warmed"], f"{location}: warmed"),
        recipes=tuple(_recipe(item, margin, f"{location}: rows[{i}]") for i, item in enumerate(rows)),
        source=source,
    )


def _recipe(item: object, margin: float, place: str) -> Recipe:
    row = required(item, ROW, ("scripts", "engine"), place)
    values: dict[str, Any] = {n: number(row[n], f"{place}: {n}", at) for n, at in NUMBERS.items() if n in row}
    values |= {n: count(row[n], f"{place}: {n}", RANKS) for n in ("ranks", "tensor") if n in row}
    values |= {n: day(row[n], f"{place}: {n}") for n in ("since", "until") if n in row}
    values |= {n: _pair(row, n, at, place) for n, at in (("formats", BITS), ("lengths", TOKENS)) if n in row}
    values |= {n: _words(row, n, place) for n in ("architectures", "gpus", "models") if n in row}
    for gpu in values.get("gpus", ()):
        one_of(gpu, f"{place}: gpus", names("gpus"))
    if "decoding" in row and yes(row["decoding"], f"{place}: decoding"):
        values |= {"decoding": True, "margin": margin}
    made = Recipe(
        engine=one_of(row["engine"], f"{place}: engine", names("engines")),
        scripts=text(row, "scripts", place),
        **values,
    )
    if made.since >= made.until:
        raise SpecError(f"{place}: until: expected a day after {made.since}, got {made.until}")
    if made.formats[0] >= made.formats[1]:
        raise SpecError(f"{place}: formats: expected a width above the first, got {shown(row['formats'])}")
    return made


def _words(row: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    return tuple(map(str, listed(row[field], f"{place}: {field}", fewest=1)))


def _pair(row: Mapping[str, Any], field: str, within: ValueRange, place: str) -> tuple[float, ...]:
    pair = listed(row[field], f"{place}: {field}", "[0, 5]")
    if len(pair) != 2:
        raise SpecError(f"{place}: {field}: expected two numbers, got {shown(pair)}")
    return tuple(number(one, f"{place}: {field}", within) for one in pair)
