"""Reading quality tables: what kvplan ships, and files measured on the user's own model."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from kvplan.catalog.fields import (
    ValueRange,
    known_fields,
    listed,
    mapping,
    number,
    one_of,
    read_source,
    shelf_document,
    source_of,
    text,
)
from kvplan.catalog.files import Document
from kvplan.catalog.lookup import as_path
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.quality import (
    ATTENTION,
    AVERAGE,
    GRADES,
    SHORT,
    BaseScore,
    QualityTable,
    Score,
    SizeScore,
    task_named,
)
from kvplan.specs.source import Source
from kvplan.units import parse_tokens

FIELDS = ("name", "title", "source", "grade", "models", "rows", "base", "sizes")
ROW = ("technique", "share", "task", "context", "condition", "retained", "scores", "spread", "source", "grade")
RULER = "{4096: 95.5, 131072: 77.0}"
SIZES = "{1e9: 0.34, 8e9: 0.75}"
ROWS = "{technique: fp8, task: code, retained: 0.99}"
#: what a row's share and spread, its score before, its share retained, and a model's parameters may be
SHARE, SPREAD = ValueRange(0, 1, open=True), ValueRange(0, 1)
BEFORE, AFTER, RETAINED = ValueRange(0, 1e6, open=True), ValueRange(0, 1e6), ValueRange(0, 2)
PARAMETERS = ValueRange(0, 1e15, open=True)
#: of a model, as the file describes it
Described = dict[str, Any]


@cache
def quality_table() -> QualityTable:
    """Return every published row kvplan ships, as one table."""
    files = [_read(name) for name in names("quality")]
    return QualityTable(
        name="published",
        scores=tuple(s for f in files for s in f.scores),
        bases=tuple(b for f in files for b in f.bases),
        sizes=tuple(s for f in files for s in f.sizes),
    )


def quality_file(word: str) -> QualityTable:
    """Return a file measured on the user's own model; its rows win over published ones. Raises SpecError."""
    if as_path(word) is None:
        raise SpecError(f"{word}: expected a quality file such as ./quality.yaml")
    return _read(word, own=True)


def _read(word: str, *, own: bool = False) -> QualityTable:
    raw, name, location = shelf_document("quality", word, "quality table")
    known_fields(raw, FIELDS, location, "quality")
    source = read_source(raw.get("source"), location)
    if not any(raw.get(section) for section in ("rows", "base", "sizes")):
        raise SpecError(
            f"{location}: holds no rows, as in rows: [{{technique: h2o:20%, task: qa-single, retained: 0.98}}]"
        )
    grade = one_of(raw.get("grade", "A" if own else None), f"{location}: grade", GRADES)
    described = mapping(raw.get("models", {}), f"{location}: models", "{llama3.1-8b: {parameters: 8e9}}")
    models = {m: _described(d, f"{location}: models: {m}") for m, d in described.items()}
    rows = listed(raw.get("rows", []), f"{location}: rows", f"rows: [{ROWS}]")
    bases = mapping(raw.get("base", {}), f"{location}: base", f"{{llama3.1-8b: {{scores: {RULER}}}}}")
    sizes = listed(raw.get("sizes", []), f"{location}: sizes", f"[{{what: 4-bit keys, accuracy: {SIZES}}}]")
    return QualityTable(
        name=text(raw, "name", location, name),
        scores=tuple(s for row in rows for s in _scores(row, models, source, grade, location)),
        bases=tuple(_base(m, b, source, grade, f"{location}: base: {m}") for m, b in bases.items()),
        sizes=tuple(s for entry in sizes for s in _sizes(entry, source, grade, f"{location}: sizes")),
        own=own,
    )


def _scores(raw: object, models: Mapping[str, Described], source: Source, grade: str, location: str) -> Iterator[Score]:
    """Yield a row's score of each model it names, one for every model where it names none."""
    row = mapping(raw, f"{location}: rows", ROWS)
    technique = text(row, "technique", f"{location}: rows", "")
    place = f"{location}: {technique or 'a row'}"
    known_fields(row, ROW, place)
    if not technique:
        raise SpecError(f"{location}: rows: a row names no technique, as in technique: h2o:20%")
    task = text(row, "task", place, "")
    for model, retained, baseline, compressed in _retained(row, place):
        if model is not None and model not in models:
            raise UnknownName("model", model, models, "describe it under models:", place)
        yield Score(
            technique=technique.replace(" ", "").lower(),
            task=task if task in (AVERAGE, SHORT) else task_named(task, f"{place}: task"),
            retained=retained,
            share=number(row["share"], f"{place}: share", SHARE) if "share" in row else None,
            spread=number(row["spread"], f"{place}: spread", SPREAD) if "spread" in row else 0.0,
            condition=text(row, "condition", place, ""),
            baseline=baseline,
            compressed=compressed,
            model=model,
            grade=one_of(row.get("grade", grade), f"{place}: grade", GRADES),
            source=source_of(row, source, place),
            **{
                "parameters": None,
                "attention": None,
                **(models[model] if model is not None else {}),
                **({"context": parse_tokens(row["context"], f"{place}: context")} if "context" in row else {}),
            },
        )


def _retained(row: Document, location: str) -> Iterator[tuple[str | None, float, float | None, float | None]]:
    """Yield (model, share retained, score before, score after) of a row."""
    if ("retained" in row) == ("scores" in row):
        raise SpecError(f"{location}: write either retained: 0.98 or scores: [before, after]")
    shares = row.get("retained", row.get("scores"))
    for model, value in shares.items() if isinstance(shares, dict) else [(None, shares)]:
        if "retained" in row:
            yield model, number(value, f"{location}: retained", RETAINED), None, None
            continue
        if not isinstance(value, list) or len(value) != 2:
            raise SpecError(f"{location}: scores: expected [before, after], as in [67, 42], got {shown(value)}")
        before = number(value[0], f"{location}: scores", BEFORE)
        after = number(value[1], f"{location}: scores", AFTER)
        yield model, after / before, before, after


def _described(raw: object, location: str) -> Described:
    fields = mapping(raw, location, "{parameters: 8e9, attention: gqa}")
    known_fields(fields, ("parameters", "attention", "context"), location)
    described: Described = {"attention": None, "parameters": None}
    if "attention" in fields:
        described["attention"] = one_of(fields["attention"], f"{location}: attention", ATTENTION)
    if "parameters" in fields:
        described["parameters"] = number(fields["parameters"], f"{location}: parameters", PARAMETERS)
    if "context" in fields:
        described["context"] = parse_tokens(fields["context"], f"{location}: context")
    return described


def _base(model: str, raw: object, source: Source, grade: str, location: str) -> BaseScore:
    fields = mapping(raw, location, f"{{scores: {RULER}}}")
    known_fields(fields, ("claimed", "effective", "scores"), location)
    scores = {
        parse_tokens(n, location): number(s, f"{location}: {n}", ValueRange(0, 100))
        for n, s in mapping(fields.get("scores"), f"{location}: scores", RULER).items()
    }
    if not scores:
        raise SpecError(f"{location}: scores: expected tokens and scores, as in {RULER}")
    words = {k: text(fields, k, location, "not stated") for k in ("claimed", "effective")}
    return BaseScore(model=model, **words, scores=tuple(sorted(scores.items())), grade=grade, source=source)


def _sizes(raw: object, source: Source, grade: str, location: str) -> Iterator[SizeScore]:
    fields = mapping(raw, location, f"{{what: 4-bit keys, accuracy: {SIZES}}}")
    known_fields(fields, ("what", "accuracy"), location)
    for size, accuracy in mapping(fields.get("accuracy"), f"{location}: accuracy", SIZES).items():
        yield SizeScore(
            what=text(fields, "what", location, ""),
            parameters=number(size, f"{location}: accuracy", PARAMETERS),
            accuracy=number(accuracy, f"{location}: accuracy", SPREAD),
            grade=grade,
            source=source,
        )
