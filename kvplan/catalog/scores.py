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
    raw, name, where = shelf_document("quality", word, "quality table")
    known_fields(raw, FIELDS, where, "quality")
    source = read_source(raw.get("source"), where)
    if not any(raw.get(section) for section in ("rows", "base", "sizes")):
        raise SpecError(
            f"{where}: holds no rows, as in rows: [{{technique: h2o:20%, task: qa-single, retained: 0.98}}]"
        )
    grade = one_of(raw.get("grade", "A" if own else None), f"{where}: grade", GRADES)
    described = mapping(raw.get("models", {}), f"{where}: models", "{llama3.1-8b: {parameters: 8e9}}")
    models = {m: _described(d, f"{where}: models: {m}") for m, d in described.items()}
    rows = listed(raw.get("rows", []), f"{where}: rows", f"rows: [{ROWS}]")
    bases = mapping(raw.get("base", {}), f"{where}: base", f"{{llama3.1-8b: {{scores: {RULER}}}}}")
    sizes = listed(raw.get("sizes", []), f"{where}: sizes", f"[{{what: 4-bit keys, accuracy: {SIZES}}}]")
    return QualityTable(
        name=text(raw, "name", where, name),
        scores=tuple(s for row in rows for s in _scores(row, models, source, grade, where)),
        bases=tuple(_base(m, b, source, grade, f"{where}: base: {m}") for m, b in bases.items()),
        sizes=tuple(s for entry in sizes for s in _sizes(entry, source, grade, f"{where}: sizes")),
        own=own,
    )


def _scores(raw: object, models: Mapping[str, Described], source: Source, grade: str, where: str) -> Iterator[Score]:
    """Yield a row's score of each model it names, one for every model where it names none."""
    row = mapping(raw, f"{where}: rows", ROWS)
    technique = text(row, "technique", f"{where}: rows", "")
    place = f"{where}: {technique or 'a row'}"
    known_fields(row, ROW, place)
    if not technique:
        raise SpecError(f"{where}: rows: a row names no technique, as in technique: h2o:20%")
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


def _retained(row: Document, where: str) -> Iterator[tuple[str | None, float, float | None, float | None]]:
    """Yield (model, share retained, score before, score after) of a row."""
    if ("retained" in row) == ("scores" in row):
        raise SpecError(f"{where}: write either retained: 0.98 or scores: [before, after]")
    found = row.get("retained", row.get("scores"))
    for model, value in found.items() if isinstance(found, dict) else [(None, found)]:
        if "retained" in row:
            yield model, number(value, f"{where}: retained", RETAINED), None, None
            continue
        if not isinstance(value, list) or len(value) != 2:
            raise SpecError(f"{where}: scores: expected [before, after], as in [67, 42], got {shown(value)}")
        before = number(value[0], f"{where}: scores", BEFORE)
        after = number(value[1], f"{where}: scores", AFTER)
        yield model, after / before, before, after


def _described(raw: object, where: str) -> Described:
    found = mapping(raw, where, "{parameters: 8e9, attention: gqa}")
    known_fields(found, ("parameters", "attention", "context"), where)
    described: Described = {"attention": None, "parameters": None}
    if "attention" in found:
        described["attention"] = one_of(found["attention"], f"{where}: attention", ATTENTION)
    if "parameters" in found:
        described["parameters"] = number(found["parameters"], f"{where}: parameters", PARAMETERS)
    if "context" in found:
        described["context"] = parse_tokens(found["context"], f"{where}: context")
    return described


def _base(model: str, raw: object, source: Source, grade: str, where: str) -> BaseScore:
    found = mapping(raw, where, f"{{scores: {RULER}}}")
    known_fields(found, ("claimed", "effective", "scores"), where)
    scores = {
        parse_tokens(n, where): number(s, f"{where}: {n}", ValueRange(0, 100))
        for n, s in mapping(found.get("scores"), f"{where}: scores", RULER).items()
    }
    if not scores:
        raise SpecError(f"{where}: scores: expected tokens and scores, as in {RULER}")
    words = {k: text(found, k, where, "not stated") for k in ("claimed", "effective")}
    return BaseScore(model=model, **words, scores=tuple(sorted(scores.items())), grade=grade, source=source)


def _sizes(raw: object, source: Source, grade: str, where: str) -> Iterator[SizeScore]:
    found = mapping(raw, where, f"{{what: 4-bit keys, accuracy: {SIZES}}}")
    known_fields(found, ("what", "accuracy"), where)
    for size, accuracy in mapping(found.get("accuracy"), f"{where}: accuracy", SIZES).items():
        yield SizeScore(
            what=text(found, "what", where, ""),
            parameters=number(size, f"{where}: accuracy", PARAMETERS),
            accuracy=number(accuracy, f"{where}: accuracy", SPREAD),
            grade=grade,
            source=source,
        )
