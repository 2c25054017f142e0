"""YAML: one mapping a file, read safely."""

from typing import Any

import yaml

from kvplan.errors import SpecError

Document = dict[str, Any]


class _Safe(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, refusing two equal keys."""


class _Text(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    """The same, leaving every value as text: units and dates are ours to read."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> Document:
    found: Document = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, "keys must be words, in quotes if need be", key_node.start_mark
            )
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


for _loader in (_Safe, _Text):
    _loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(text: str, where: str, *, typed: bool) -> Document:
    """Parse one YAML mapping safely; `typed` gives numbers and booleans, else everything stays text."""
    try:
        found = yaml.load(text, Loader=_Safe if typed else _Text)  # noqa: S506 (both are safe loaders)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise SpecError(f"{where}:{line} {getattr(error, 'problem', None) or 'is not valid YAML'}") from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise SpecError(f"{where}: {' '.join(str(error).split()) or 'nested too deeply'}") from None
    if not isinstance(found, dict):
        raise SpecError(f"{where}: expected a mapping of fields, got {type(found).__name__}")
    return found
