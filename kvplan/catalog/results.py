"""Reading result files of benchmark tools (JSON): large ones list the time of every token of every request."""

import json
from typing import Any

from kvplan.catalog.files import Document, check_size, path_of, read_text
from kvplan.errors import SpecError

#: a result with every token's time of 10,000 requests has some 200 MB
MAX_RESULT = 300_000_000
#: lists with one entry per request or token: never looked at, and nearly all of a detailed file
PER_REQUEST = frozenset(("requests", "itls", "ttfts", "generated_texts", "input_lens", "output_lens", "start_times"))


def _lighter(pairs: list[tuple[str, Any]]) -> Document:
    return {key: value for key, value in pairs if key not in PER_REQUEST or not isinstance(value, list | dict)}


def read_results(word: str) -> tuple[str, list[Document]]:
    """Return a file's name and its JSON objects without their per-request lists.

    A file holds one object, a list of them, or one after another, as tools that append write it. Raises SpecError.
    """
    path = path_of(word)
    where = path.name
    text = read_text(path, where, MAX_RESULT)
    check_size(text, where)
    objects = _objects(text, where)
    if not objects:
        raise SpecError(f"{where}: is empty; give the JSON file that the benchmark saved")
    for entry in objects:
        if not isinstance(entry, dict):
            raise SpecError(f"{where}: expected an object, got {type(entry).__name__}")
    return where, objects


def _objects(text: str, where: str) -> list[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_lighter)
    objects: list[Any] = []
    at, end = 0, len(text.rstrip())
    try:
        while at < end:
            while text[at].isspace():
                at += 1
            value, at = decoder.raw_decode(text, at)
            objects += value if isinstance(value, list) else [value]
    except json.JSONDecodeError as error:
        cut = error.pos >= end or error.msg.startswith("Unterminated")
        more = "; the file ends too early: was it saved whole?" if cut else ""
        raise SpecError(f"{where}: line {error.lineno}: {error.msg}{more}") from None
    except (ValueError, RecursionError):
        raise SpecError(f"{where}: nested too deeply, or a number too large") from None
    return objects
