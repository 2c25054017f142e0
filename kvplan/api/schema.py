"""The JSON Schema of a kind of YAML file, or of the document that a command prints."""

from dataclasses import dataclass
from typing import Any

from kvplan.catalog import schemas
from kvplan.errors import KvplanError, SpecError, UnknownName, alike, shown


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
    files = tuple((name, title) for name, (_, title, _) in schemas.KINDS.items())
    answers = schemas.documents()
    shape: dict[str, Any] = {}
    if kind is not None:
        if (known := singular(kind)) not in schemas.KINDS:
            raise no_kind(kind, answers)
        kind = known
        shape = schemas.schema(known, asked())
    if answer is not None:
        if answer not in answers:
            raise UnknownName("command with a document", answer, answers, f"known: {', '.join(answers)}")
        shape = schemas.document_schema(answer)
    title = shape.get("description" if kind else "title", "")
    return Schema(kind=kind or answer or "", title=title, shape=shape, files=files, answers=answers)


#: a file that a command writes -> the command, whose document it is
WRITTEN = {"plan": "recommend"}


def no_kind(word: str, answers: tuple[str, ...]) -> KvplanError:
    """Return the refusal of a kind of file that is none: what is near may also be a command's document."""
    documents = {**{name: name for name in answers}, **WRITTEN}
    near = next(iter(alike(word, (*schemas.KINDS, *documents), 1)), "")
    if near not in documents or near in schemas.KINDS:
        return UnknownName("kind of file", word, schemas.KINDS, f"known: {', '.join(schemas.KINDS)}")
    meant = "" if near == word.lower() else f"did you mean {near!r}? "
    whose = f"{'a plan' if near == 'plan' else 'it'} is the document of {documents[near]}, answer={documents[near]}"
    return SpecError(f"no kind of file that you write is named {shown(word)}; {meant}{whose}")


def singular(kind: str) -> str:
    """Return a kind as schemas are called, however lists spell it: 'gpus' is gpu, 'studies' study, 'price' prices."""
    tries = (kind, kind.removesuffix("s"), f"{kind.removesuffix('ies')}y", f"{kind}s")
    return next((word for word in tries if word in schemas.KINDS), kind)


def asked() -> tuple[str, ...]:
    """Return the questions that a study may ask."""
    from kvplan.api.sweeping.questions import askable

    return tuple(askable())
