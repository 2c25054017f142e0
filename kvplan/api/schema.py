"""The JSON Schema of a kind of YAML file, or of the document that a command prints."""

from dataclasses import dataclass
from typing import Any

from kvplan.catalog import schemas
from kvplan.errors import SpecError, UnknownName


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A schema, or what there is where none was asked for."""

    kind: str  #: kind of file, or command; '' where none was asked for
    title: str  #: what it describes
    shape: dict[str, Any]  #: the schema; {} where none was asked for
    files: tuple[tuple[str, str], ...]  #: kinds of files that have one, with what each is
    answers: tuple[str, ...]  #: commands whose documents have one


def schema(kind: str | None = None, *, answer: str | None = None) -> Schema:
    """Return the schema of a kind of file, or of a command's document; raise SpecError, UnknownName."""
    if kind is not None and answer is not None:
        raise SpecError("kind, answer: ask for one schema at a time")
    files, answers = tuple((name, title) for name, (_, title, _) in schemas.KINDS.items()), schemas.documents()
    shape: dict[str, Any] = {}
    if kind is not None:
        if (known := singular(kind)) not in schemas.KINDS:
            hint = f"known: {', '.join(schemas.KINDS)}"
            raise UnknownName("kind of file", kind, schemas.KINDS, hint)
        kind, shape = known, schemas.schema(known, asked())
    if answer is not None:
        if answer not in answers:
            raise UnknownName("command with a document", answer, answers, f"known: {', '.join(answers)}")
        shape = schemas.document_schema(answer)
    title = shape.get("description" if kind else "title", "")
    return Schema(kind=kind or answer or "", title=title, shape=shape, files=files, answers=answers)


def singular(kind: str) -> str:
    """Return a kind as schemas are called, however lists spell it: 'gpus' is gpu, 'studies' study, 'price' prices."""
    tries = (kind, kind.removesuffix("s"), f"{kind.removesuffix('ies')}y", f"{kind}s")
    return next((word for word in tries if word in schemas.KINDS), kind)


def asked() -> tuple[str, ...]:
    """Return the questions that a study may ask."""
    from kvplan.api.sweeping.questions import askable

    return tuple(askable())
