"""YAML from outside: one mapping, built in one pass over its events, each bounded; nothing in it runs or multiplies."""

from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from kvplan.errors import SpecError, shown

Document = dict[str, Any]
#: values, keys and brackets of one document; lists and mappings within each other; letters of a key and of a value
MOST, DEEPEST, LONGEST, LONGEST_VALUE = 100_000, 50, 200, 20_000

_Events = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_values = SafeConstructor()
#: how plain scalars that are no text are read; dates stay text
_TYPED = {
    "tag:yaml.org,2002:null": _values.construct_yaml_null,
    "tag:yaml.org,2002:bool": _values.construct_yaml_bool,
    "tag:yaml.org,2002:int": _values.construct_yaml_int,
    "tag:yaml.org,2002:float": _values.construct_yaml_float,
}
_PATTERNS = Resolver.yaml_implicit_resolvers


class _Refused(Exception):
    """Why a document is not read."""


def read_yaml(text: str, location: str, *, typed: bool) -> Document:
    """Parse one YAML mapping safely; `typed` gives numbers and booleans, else everything stays text.

    Aliases, tags and merged mappings are refused, and so are two equal keys: no file for kvplan needs them, and a few
    hundred bytes of them can fill any memory. Raises SpecError.
    """
    line = 0
    try:
        building = _Building(typed)
        for event in yaml.parse(text, Loader=_Events):
            line = building.line(event)
            building.take(event)
        document = building.document()
    except yaml.YAMLError as error:
        raise SpecError(f"{location}: {malformed(error, text)}") from None
    except _Refused as refusal:
        raise SpecError(f"{location}: line {line}: {refusal}") from None
    except (ValueError, RecursionError, OverflowError):
        raise SpecError(f"{location}: line {line or 1}: a value that cannot be read") from None
    if not isinstance(document, dict):
        got = {type(None): "nothing", str: "a text", list: "a list"}.get(type(document), "a single value")
        raise SpecError(f"{location}: expected a mapping of fields, as in name: value; got {got}")
    return document


def malformed(error: yaml.YAMLError, text: str) -> str:
    """Return where a text is no YAML, and what to write: the parser's own words name neither cause nor remedy."""
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem, context = getattr(error, "problem", None) or "is not valid YAML", getattr(error, "context", None) or ""
    if mark is None:
        return str(problem)
    row = [*text.splitlines(), ""][min(mark.line, text.count("\n"))]
    wrong = row[mark.column : mark.column + 1]
    opened = f"that begins in line {begun.line + 1} is not closed" if begun else "is not closed"
    remedies = (
        ("flow sequence" in context, f"expected , or ]: the list {opened}"),
        ("flow mapping" in context, f"expected , or }}: the mapping {opened}"),
        ("quoted scalar" in context, f"the quote {opened}"),
        ("cannot start any token" in problem and wrong == "\t", "a tab; indent with spaces"),
        ("cannot start any token" in problem, f"{wrong} cannot begin a value; put the value in quotes"),
        ("mapping values" in problem, "a : that begins no field; indent fields alike, and put texts with : in quotes"),
    )
    advice = next((words for fits, words in remedies if fits), str(problem))
    return f"line {mark.line + 1}: {advice}"


class _Building:
    """A document as its events arrive: the lists and mappings that are open, and each mapping's key in waiting."""

    def __init__(self, typed: bool):
        self.typed, self.count, self.documents = typed, 0, 0
        self.open: list[list[Any] | Document] = []
        self.keys: list[str | None] = []
        self.whole: Any = None

    @staticmethod
    def line(event: Any) -> int:
        """Return the line of the file an event begins on, from 1."""
        return int(event.start_mark.line) + 1

    def take(self, event: Any) -> None:
        """Add one event to what has been built; raise _Refused."""
        kind = type(event)
        self.count += 1
        if self.count > MOST:
            raise _Refused(f"holds more than {MOST:,} values, which no file that kvplan reads does")
        if kind is yaml.ScalarEvent:
            self._refuse_tag(event)
            if len(event.value) > LONGEST_VALUE:
                raise _Refused(f"a value of {len(event.value):,} letters")
            plain = self.typed and event.implicit[0]
            self._place(_typed(event.value) if plain else event.value)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._refuse_tag(event)
            if len(self.open) >= DEEPEST:
                raise _Refused(f"nested more than {DEEPEST} deep")
            opened: list[Any] | Document = {} if kind is yaml.MappingStartEvent else []
            self._place(opened)
            self.open.append(opened)
            self.keys.append(None)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self.open.pop()
            self.keys.pop()
        elif kind is yaml.AliasEvent:
            raise _Refused("aliases (*name) are not read; write the value out")
        elif kind is yaml.DocumentStartEvent:
            self.documents += 1
            if self.documents > 1:
                raise _Refused("a second document begins; give each a file of its own")

    def document(self) -> object:
        """Return the document, None where the text holds none."""
        return self.whole

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            raise _Refused(f"tags ({shown(event.tag)[1:-1]}) are not read; write the value alone")

    def _place(self, value: object) -> None:
        if not self.open:
            self.whole = value
            return
        inside, key = self.open[-1], self.keys[-1]
        if isinstance(inside, list):
            inside.append(value)
        elif key is None:
            self.keys[-1] = self._key(value, inside)
        else:
            inside[key] = value
            self.keys[-1] = None

    def _key(self, value: object, inside: Document) -> str:
        if not isinstance(value, str):
            raise _Refused("keys must be words, in quotes if need be")
        if value == "<<":
            raise _Refused("merged mappings (<<) are not read; write the fields out")
        if len(value) > LONGEST:
            raise _Refused(f"a key of {len(value):,} letters")
        if value in inside:
            raise _Refused(f"key {shown(value)} stands twice")
        return value


def _typed(text: str) -> object:
    """Return a plain scalar as what it looks like."""
    for tag, pattern in (*_PATTERNS.get(text[:1], ()), *_PATTERNS.get(None, ())):
        if pattern.match(text):
            read = _TYPED.get(tag)
            return text if read is None else read(yaml.ScalarNode(tag, text))
    return text
