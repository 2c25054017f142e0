"""Reading quality tables: what kvplan ships, and files measured on the user's own model."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from kvplan.catalog.fields import known_fields, read_source
from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path
from kvplan.catalog.shelves import names, shipped
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
from kvplan.units import parse, parse_tokens

FIELDS = ("name", "title", "source", "grade", "models", "rows", "base", "sizes")
ROW = ("technique", "share", "task", "context", "condition", "retained", "scores", "spread", "source", "grade")
RULER = "{4096: 95.5, 131072: 77.0}"
SIZES = "{1e9: 0.34, 8e9: 0.75}"
#: of a model, as the file describes it
Described = dict[str, Any]


@cache
def quality_table() -> QualityTable:
    """Return every published row kvplan ships, as one table."""
    files = [_read(name, shipped("quality", name), f"{name}.yaml") for name in names("quality")]
    return QualityTable(
        name="published",
        scores=tuple(s for f in files for s in f.scores),
        bases=tuple(b for f in files for b in f.bases),
        sizes=tuple(s for f in files for s in f.sizes),
    )


def quality_file(word: str) -> QualityTable:
    """Return a file measured on the user's own model; its rows win over published ones."""
    path = as_path(word)
    if path is None:
        raise SpecError(f"{word}: expected a quality file such as ./quality.yaml")
    return _read(path.stem, read_text(path, path.name), path.name, own=True)


def _read(name: str, text: str, where: str, *, own: bool = False) -> QualityTable:
    raw = read_yaml(text, where, typed=False)
    known_fields(raw, FIELDS, where)
    source = read_source(raw.get("source"), where)
    if not any(raw.get(section) for section in ("rows", "base", "sizes")):
        raise SpecError(
            f"{where}: holds no rows, as in rows: [{{technique: h2o:20%, task: qa-single, retained: 0.98}}]"
        )
    grade = _grade(raw.get("grade", "A" if own else None), where)
    models = {m: _described(d, f"{where}: models: {m}") for m, d in _fields(raw.get("models", {}), where).items()}
    return QualityTable(
        name=str(raw.get("name", name)),
        scores=tuple(s for row in _rows(raw, where) for s in _scores(row, models, source, grade, where)),
        bases=tuple(
            _base(m, b, source, grade, f"{where}: base: {m}") for m, b in _fields(raw.get("base", {}), where).items()
        ),
        sizes=tuple(s for entry in raw.get("sizes", []) for s in _sizes(entry, source, grade, f"{where}: sizes")),
        own=own,
    )


def _rows(raw: Document, where: str) -> list[Any]:
    rows = raw.get("rows", [])
    if not isinstance(rows, list):
        raise SpecError(f"{where}: rows: expected a list, as in rows: [{{technique: fp8, task: code, retained: 0.99}}]")
    return rows


def _scores(raw: object, models: Mapping[str, Described], source: Source, grade: str, where: str) -> Iterator[Score]:
    """Yield a row's score of each model it names, one for every model where it names none."""
    row = _fields(raw, f"{where}: rows")
    technique = str(row.get("technique", ""))
    place = f"{where}: {technique or 'a row'}"
    known_fields(row, ROW, place)
    if not technique:
        raise SpecError(f"{where}: rows: a row names no technique, as in technique: h2o:20%")
    task = str(row.get("task", ""))
    for model, retained, baseline, compressed in _retained(row, place):
        if model is not None and model not in models:
            raise UnknownName("model", model, models, "describe it under models:", place)
        yield Score(
            technique=technique.replace(" ", "").lower(),
            task=task if task in (AVERAGE, SHORT) else task_named(task, f"{place}: task"),
            retained=retained,
            share=_between(row["share"], f"{place}: share", 1.0) if "share" in row else None,
            spread=_between(row["spread"], f"{place}: spread", 1.0, zero=True) if "spread" in row else 0.0,
            condition=str(row.get("condition", "")),
            baseline=baseline,
            compressed=compressed,
            model=model,
            grade=_grade(row.get("grade", grade), place),
            source=read_source(row["source"], place) if "source" in row else source,
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
            yield model, _between(value, f"{where}: retained", 2.0, zero=True), None, None
            continue
        if not isinstance(value, list) or len(value) != 2:
            raise SpecError(f"{where}: scores: expected [before, after], as in [67, 42], got {shown(value)}")
        before = _between(value[0], f"{where}: scores", 1e6)
        after = _between(value[1], f"{where}: scores", 1e6, zero=True)
        yield model, after / before, before, after


def _described(raw: object, where: str) -> Described:
    found = _fields(raw, where, "{parameters: 8e9, attention: gqa}")
    known_fields(found, ("parameters", "attention", "context"), where)
    attention = found.get("attention")
    if attention is not None and attention not in ATTENTION:
        raise SpecError(f"{where}: attention must be one of {', '.join(ATTENTION)}, got {shown(attention)}")
    described: Described = {"attention": attention, "parameters": None}
    if "parameters" in found:
        described["parameters"] = _between(found["parameters"], f"{where}: parameters", 1e15)
    if "context" in found:
        described["context"] = parse_tokens(found["context"], f"{where}: context")
    return described


def _base(model: str, raw: object, source: Source, grade: str, where: str) -> BaseScore:
    found = _fields(raw, where, f"{{scores: {RULER}}}")
    known_fields(found, ("claimed", "effective", "scores"), where)
    scores = {
        parse_tokens(n, where): _between(s, f"{where}: {n}", 100.0, zero=True)
        for n, s in _fields(found.get("scores"), f"{where}: scores", RULER).items()
    }
    if not scores:
        raise SpecError(f"{where}: scores: expected tokens and scores, as in {RULER}")
    words = {k: str(found.get(k, "not stated")) for k in ("claimed", "effective")}
    return BaseScore(model=model, **words, scores=tuple(sorted(scores.items())), grade=grade, source=source)


def _sizes(raw: object, source: Source, grade: str, where: str) -> Iterator[SizeScore]:
    found = _fields(raw, where, f"{{what: 4-bit keys, accuracy: {SIZES}}}")
    known_fields(found, ("what", "accuracy"), where)
    for size, accuracy in _fields(found.get("accuracy"), f"{where}: accuracy", SIZES).items():
        yield SizeScore(
            what=str(found.get("what", "")),
            parameters=_between(size, f"{where}: accuracy", 1e15),
            accuracy=_between(accuracy, f"{where}: accuracy", 1.0, zero=True),
            grade=grade,
            source=source,
        )


def _fields(raw: object, where: str, example: str = "{technique: fp8, task: code, retained: 0.99}") -> Document:
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected fields, as in {example}, got {shown(raw)}")
    return raw


def _grade(raw: object, where: str) -> str:
    if raw not in GRADES:
        raise SpecError(f"{where}: grade must be one of {', '.join(GRADES)}, got {shown(raw)}")
    return str(raw)


def _between(raw: object, where: str, most: float, *, zero: bool = False) -> float:
    """Read a plain number from zero, itself refused unless `zero`, to `most`."""
    number = parse(raw, "1", where)
    if not 0 <= number <= most or (number == 0 and not zero):
        raise SpecError(f"{where}: must be {'at least' if zero else 'above'} 0 and at most {most:,g}, got {shown(raw)}")
    return number
