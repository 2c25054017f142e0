"""Reading quality tables: what kvplan ships, and files measured on the user's own model."""

from collections.abc import Iterator, Mapping, Sequence
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
    QUERIES,
    SHORT,
    BaseScore,
    QualityTable,
    Score,
    SizeScore,
    task_named,
)
from kvplan.specs.source import Source
from kvplan.units import parse_tokens

FIELDS = (
    "name",
    "title",
    "source",
    "sources",
    "grade",
    "benchmark",
    "models",
    "rows",
    "tests",
    "curves",
    "base",
    "sizes",
)
ROW = (
    "technique", "share", "task", "context", "condition", "benchmark", "query", "retained", "scores", "spread",
    "source", "grade",
)  # fmt: skip
CURVE = ("technique", "query", "condition", "shares", "scores")
TESTS = "{macro: {task: average, condition: mean of 13 tasks}}"
CURVES = "[{technique: snapkv, query: unseen, shares: [0.5, 0.25], scores: {llama3.1-8b: {macro: [95.7, 69.7, 43.3]}}}]"
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
    if not any(raw.get(section) for section in ("rows", "curves", "base", "sizes")):
        raise SpecError(
            f"{location}: holds no rows, as in rows: [{{technique: h2o:20%, task: qa-single, retained: 0.98}}]"
        )
    grade = one_of(raw.get("grade", "A" if own else None), f"{location}: grade", GRADES)
    described = mapping(raw.get("models", {}), f"{location}: models", "{llama3.1-8b: {parameters: 8e9}}")
    models = {m: _described(d, f"{location}: models: {m}") for m, d in described.items()}
    rows = listed(raw.get("rows", []), f"{location}: rows", f"rows: [{ROWS}]")
    sources = mapping(raw.get("sources", {}), f"{location}: sources", "{paper: {kind: paper, ref: ..., date: ...}}")
    rows = [_sourced(row, sources, f"{location}: rows") for row in rows] + list(_unrolled(raw, location))
    usual = text(raw, "benchmark", location, "")
    bases = mapping(raw.get("base", {}), f"{location}: base", f"{{llama3.1-8b: {{scores: {RULER}}}}}")
    sizes = listed(raw.get("sizes", []), f"{location}: sizes", f"[{{what: 4-bit keys, accuracy: {SIZES}}}]")
    return QualityTable(
        name=text(raw, "name", location, name),
        scores=tuple(s for row in rows for s in _scores(row, models, source, grade, location, usual)),
        bases=tuple(_base(m, b, source, grade, f"{location}: base: {m}") for m, b in bases.items()),
        sizes=tuple(s for entry in sizes for s in _sizes(entry, source, grade, f"{location}: sizes")),
        own=own,
    )


def _sourced(raw: object, sources: Document, location: str) -> object:
    """Return a row with the source it calls by name written out; UnknownName where there is none of that name."""
    name = raw.get("source") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(name, str):
        return raw
    if name not in sources:
        raise UnknownName("source", name, sources, "describe it under sources:", location)
    return {**raw, "source": sources[name]}


def _unrolled(raw: Document, location: str) -> Iterator[Document]:
    """Yield the curves of a file as rows: one for each technique, test and share, with the scores of every model."""
    tests = mapping(raw.get("tests", {}), f"{location}: tests", TESTS)
    for entry in listed(raw.get("curves", []), f"{location}: curves", CURVES):
        curve = mapping(entry, f"{location}: curves", CURVES)
        place = f"{location}: {shown(curve.get('technique', 'a curve'))}"
        known_fields(curve, CURVE, place)
        shares = listed(curve.get("shares", []), f"{place}: shares", "[0.5, 0.25]")
        for model, by_test in mapping(curve.get("scores"), f"{place}: scores", CURVES).items():
            for test, scores in mapping(by_test, f"{place}: {model}", "{macro: [95.7, 69.7]}").items():
                yield from _points(curve, tests, shares, model, test, scores, place)


def _points(
    curve: Document, tests: Document, shares: Sequence[object], model: str, test: str, scores: object, location: str
) -> Iterator[Document]:
    """Yield a row for each share of one model's curve in one test."""
    if test not in tests:
        raise UnknownName("test", test, tests, "describe it under tests:", location)
    values = listed(scores, f"{location}: {model}: {test}", "[95.7, 69.7, 43.3]")
    if len(values) != len(shares) + 1:
        raise SpecError(f"{location}: {model}: {test}: expected the uncompressed score and one for each share")
    described = mapping(tests[test], f"{location}: tests: {test}", TESTS)
    words = ", ".join(str(w) for w in (described.get("condition"), curve.get("condition")) if w)
    shared = {"technique": curve.get("technique"), "query": curve.get("query", ""), "condition": words}
    for share, score in zip(shares, values[1:], strict=True):
        yield {**shared, "task": described.get("task"), "share": share, "scores": {model: [values[0], score]}}


def _scores(
    raw: object, models: Mapping[str, Described], source: Source, grade: str, location: str, benchmark: str
) -> Iterator[Score]:
    """Yield a row's score of each model it names, one for every model where it names none."""
    row = mapping(raw, f"{location}: rows", ROWS)
    technique = text(row, "technique", f"{location}: rows", "")
    place = f"{location}: {technique or 'a row'}"
    known_fields(row, ROW, place)
    if not technique:
        raise SpecError(f"{location}: rows: a row names no technique, as in technique: h2o:20%")
    task = text(row, "task", place, "")
    context = {"context": parse_tokens(row["context"], f"{place}: context")} if "context" in row else {}
    said: dict[str, Any] = {
        "technique": technique.replace(" ", "").lower(),
        "task": task if task in (AVERAGE, SHORT) else task_named(task, f"{place}: task"),
        "share": number(row["share"], f"{place}: share", SHARE) if "share" in row else None,
        "spread": number(row["spread"], f"{place}: spread", SPREAD) if "spread" in row else 0.0,
        "condition": text(row, "condition", place, ""),
        "benchmark": text(row, "benchmark", place, benchmark),
        "query": one_of(row["query"], f"{place}: query", QUERIES) if row.get("query") else "",
        "grade": one_of(row.get("grade", grade), f"{place}: grade", GRADES),
        "source": source_of(row, source, place),
    }
    for model, retained, baseline, compressed in _retained(row, place):
        if model is not None and model not in models:
            raise UnknownName("model", model, models, "describe it under models:", place)
        about = {"parameters": None, "attention": None, **(models[model] if model is not None else {}), **context}
        yield Score(model=model, retained=retained, baseline=baseline, compressed=compressed, **said, **about)


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
