"""The data files kvplan ships, by kind and name: their text, and what they say.

Parsing fifty YAML files takes longer than most answers, so the build of a wheel keeps what each says beside them
(`setup.py`). An entry counts only while its file is as it was parsed; a source checkout has no entries and parses.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from kvplan import DATA

Document = dict[str, Any]
#: shelves whose files are kept parsed: all that `document` reads
KEPT = (
    "apis", "claims", "collections", "drafts", "engines", "gpus", "instances", "makers", "models", "ownership",
    "prices", "quality", "recipes", "serving", "workloads",
)  # fmt: skip
#: those whose numbers and booleans are parsed, too; else all is text
TYPED = ("models", "serving")
#: the file of a shelf with what its files say: name -> [checksum of the text, document]
PARSED = "parsed.json"


def shelf(kind: str) -> Path:
    """Return the folder of a kind of data."""
    return DATA / "models" if kind == "models" else DATA / "profiles" / kind


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names on a shelf, sorted."""
    return tuple(sorted(path.name[:-5] for path in shelf(kind).iterdir() if path.name.endswith(".yaml")))


def shipped(kind: str, name: str) -> str:
    """Return the text of a shipped file."""
    return (shelf(kind) / f"{name}.yaml").read_text("utf-8")


def document(kind: str, name: str) -> Document:
    """Return what a shipped file says: as kept when the wheel was built, parsed if it has changed since or is new."""
    text = shipped(kind, name)
    checksum, content = _kept(kind).get(name, (None, {}))
    return content if checksum == crc32(text.encode()) else parsed(kind, name, text)


def parsed(kind: str, name: str, text: str) -> Document:
    """Return what a text of a shelf says."""
    from kvplan.catalog.safe_yaml import read_yaml

    return read_yaml(text, f"{name}.yaml", typed=kind in TYPED)


@cache
def _kept(kind: str) -> dict[str, tuple[int, Document]]:
    path = shelf(kind) / PARSED
    documents: dict[str, tuple[int, Document]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return documents


def keep(folder: Path, kind: str) -> None:
    """Write what the files of a shelf say into a folder with copies of them."""
    texts = {name: shipped(kind, name) for name in names(kind)}
    documents = {name: (crc32(text.encode()), parsed(kind, name, text)) for name, text in texts.items()}
    (folder / PARSED).write_text(json.dumps(documents, default=str, separators=(",", ":")), "utf-8")  # dates as text
