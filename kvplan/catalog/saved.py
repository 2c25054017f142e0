"""Plans that `kvplan recommend` saved: JSON documents, written whole and read back with suspicion."""

import json
from collections.abc import Mapping
from typing import Any

from kvplan.catalog.files import Document, path_of, read_json, read_text, write_whole
from kvplan.errors import SpecError

#: the schema of documents that can be compared
SCHEMA = 1


def save_plan(word: str, document: Mapping[str, Any]) -> None:
    """Write a recommendation's document, whole or not at all; raise SpecError."""
    path = path_of(word)
    if path.suffix != ".json":
        raise SpecError(f"save: {word}: write a file name that ends with .json, as in plan.json")
    write_whole(path, json.dumps(document, allow_nan=False, indent=1) + "\n")


def saved_plan(word: str) -> Document:
    """Return the document of a recommendation that was saved; raise SpecError that names the field that is amiss."""
    path = path_of(word)
    found = read_json(read_text(path, path.name or word), path.name or word)
    if found.get("command") != "recommend" or found.get("schema") != SCHEMA:
        raise SpecError(f"{path.name}: is no saved recommendation, which kvplan recommend writes")
    question = found.get("question")
    if not isinstance(question, list) or not all(isinstance(word, str) for word in question):
        raise SpecError(f"{path.name}: question: expected the words it was asked with, as kvplan recommend saves them")
    for field, kind in (("model", str), ("workload", dict), ("limits", dict), ("day", str)):
        if not isinstance(found.get(field), kind):
            raise SpecError(f"{path.name}: {field}: is missing or no {kind.__name__}; save the plan again")
    if not isinstance(found.get("recommended", ""), (dict, type(None))):
        raise SpecError(f"{path.name}: recommended: expected a plan or null, as kvplan recommend saves them")
    return found
