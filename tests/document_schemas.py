"""Schemas of documents, made from documents: what all of a command's answers have in common. No test stands here.

Documents are made by functions, column by column, and not by classes that a library could read, so their shape is
read off the answers that the golden files hold: `pytest --update-golden` writes kvplan/schemas/ anew.
"""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack, chdir
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jsonschema import Draft202012Validator
from metric_pages import REQUESTS, SECONDS, served, vllm
from printing import printed

from kvplan.catalog.schemas import document_schema
from kvplan.catalog.shapes import DRAFT
from kvplan.report.dictionary import meaning

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT / "kvplan" / "schemas"
Shape = dict[str, Any]
#: a key that is a name of ours; any other is a value (a GPU, a technique, a reason)
NAME = re.compile(r"[a-z][a-z0-9_]*")
#: objects by GPU, technique, verdict ... whose keys may all look like names
BY_NAME = {"counts", "available", "barred", "gpus_paid", "states", "statuses", "basis", "intervals_80", "gpu_hours"}
#: the values of a call, which hold those alone that were given
CALL = "values"


def inferred(value: Any, name: str = "") -> Shape:
    """Return what one value looks like; numbers may be unknown, which is null."""
    if isinstance(value, dict):
        if name in BY_NAME or any(not NAME.fullmatch(key) for key in value):
            return {"type": ["object"], "additionalProperties": joined(*(inferred(below) for below in value.values()))}
        shapes = {key: inferred(below, key) for key, below in value.items()}
        return {"type": ["object"], "properties": shapes, "required": [] if name == CALL else sorted(value)}
    if isinstance(value, list):
        return {"type": ["array"], "items": joined(*map(inferred, value))}
    if isinstance(value, bool):
        return {"type": ["boolean"]}
    if isinstance(value, (int, float)):
        return {"type": ["null", "number"]}
    return {"type": ["null" if value is None else "string"]}


def joined(*shapes: Shape) -> Shape:
    """Return what values of several shapes have in common; {} of none, which is anything."""
    whole: Shape = {}
    for shape in shapes:
        whole = joined_two(whole, shape) if whole and shape else whole or shape
    return whole


def joined_two(a: Shape, b: Shape) -> Shape:
    """Return what values of either shape look like."""
    found: Shape = {"type": sorted({*a["type"], *b["type"]})}
    if "items" in a or "items" in b:
        found["items"] = joined(a.get("items", {}), b.get("items", {}))
    objects = [shape for shape in (a, b) if "object" in shape["type"]]
    if any("additionalProperties" in shape for shape in objects):
        parts = [*(shape.get("additionalProperties", {}) for shape in objects)]
        parts += [below for shape in objects for below in shape.get("properties", {}).values()]
        found["additionalProperties"] = joined(*parts)
    elif objects:
        names = dict.fromkeys(name for shape in objects for name in shape["properties"])
        found["properties"] = {
            name: joined(*(shape["properties"].get(name, {}) for shape in objects)) for name in names
        }
        found["required"] = sorted(set.intersection(*(set(shape["required"]) for shape in objects)))
    return found


def described(shape: Shape, name: str = "", within: str = "") -> Shape:
    """Return a shape with what its names mean, types of one kind written as one."""
    told = {"description": said} if (said := meaning(name, within)) else {}
    found = {**told, **shape}
    if len(shape.get("type", ())) == 1:
        found["type"] = shape["type"][0]
    if "properties" in shape:
        found["properties"] = {key: described(below, key, name) for key, below in shape["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in shape:
            found[key] = described(shape[key])
    return found


def schema_of(command: str, documents: list[Any]) -> Shape:
    """Return the schema of a command's documents."""
    shape = described(joined(*map(inferred, documents)))
    shape["properties"] |= {"schema": {"const": 1}, "command": {"const": command}}
    title = f"kvplan {command}: the document of format json, schema 1"
    return {"$schema": DRAFT, "title": title, **shape}


def closed(shape: Any) -> Any:
    """Return a schema that refuses every name it does not know: what a document gained shows."""
    if isinstance(shape, list):
        return [closed(below) for below in shape]
    if not isinstance(shape, dict):
        return shape
    found = {key: closed(below) for key, below in shape.items()}
    if isinstance(shape.get("properties"), dict) and "type" in shape:
        found["additionalProperties"] = False
    return found


def written(schema: Shape) -> str:
    """Return a schema as its file holds it."""
    return json.dumps(schema, indent=1) + "\n"


def keeps(document: Any) -> list[str]:
    """Return where a document leaves its schema, which here knows every name."""
    check = Draft202012Validator(closed(document_schema(document["command"])))
    return [f"{e.json_path}: {e.message}"[:200] for e in check.iter_errors(document)]


# -- answers without a golden file ----------------------------------------------------------------

#: commands whose answers depend on the machine, on a server, or take a model
BESIDE = {
    "doctor": "doctor", "schema": "schema gpu", "tour": "tour", "export": "export vllm plan.json",
    "evaluate": "evaluate -m recall -t mhc:2x --samples 2 --questions 1 --lengths 96",
    "compress": "compress -m recall -t mhc:2x -o latents",
    "watch": "watch ADDRESS --set gpu=h100 --set tp=1 --count 1",
}  # fmt: skip
#: what writes the plan that others read
PLAN = "recommend -w chat -m llama3.1-8b -g h100 -t fp8 --on 2026-11-24 --save plan.json"


def beside(command: str, folder: Path) -> Any:
    """Return the document of a command of BESIDE, asked in a folder."""
    clock = count(0.0, SECONDS)
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        line = BESIDE[command]
        if "plan.json" in line:
            printed(PLAN.split())
        if "ADDRESS" in line:
            stack.enter_context(patch("kvplan.catalog.servers.metrics.time.monotonic", lambda: next(clock)))
            stack.enter_context(patch("kvplan.api.watch.time.sleep", lambda _: None))
            address = stack.enter_context(served(*(vllm(REQUESTS * n) for n in range(9))))
            line = line.replace("ADDRESS", address)
        return printed([*line.split(), "--json"]).json


def write_anew(told: Mapping[str, list[Any]], folder: Path) -> None:
    """Write the schema of every command, those of BESIDE from answers given now."""
    for command in BESIDE:
        told = {**told, command: [beside(command, folder)]}
    for path in SCHEMAS.glob("*.json"):
        path.unlink()
    for command, documents in told.items():
        (SCHEMAS / f"{command}.json").write_text(written(schema_of(command, documents)), "utf-8")
