"""GPUs by name, alias or YAML file."""

from functools import cache

from kvplan.catalog.fields import figures, shelf_document, text
from kvplan.catalog.lookup import as_path, resolve
from kvplan.errors import SpecError
from kvplan.specs.hardware import GPU_FIELDS, Gpu

#: what every GPU file states, with an example to copy
NEEDED = {"memory": "80 GB", "bandwidth": "3.35 TB/s", "fp16": "989 TFLOP/s", "link": "450 GB/s"}


def gpu(word: str) -> Gpu:
    """Return a GPU by name, alias (measurement files', NVML's) or YAML file; raise SpecError, UnknownName."""
    return _read(word) if as_path(word) else _named(resolve("gpus", word, "GPU"))


@cache
def _named(name: str) -> Gpu:
    return _read(name)


def _read(word: str) -> Gpu:
    raw, name, where = shelf_document("gpus", word, "GPU")
    values, sources = figures(raw, GPU_FIELDS, where, "gpu")
    values.setdefault("visible_memory", values.get("memory"))
    values.setdefault("fp16", values.get("bf16"))
    for field, example in NEEDED.items():
        if values.get(field) is None:
            raise SpecError(f"{where}: missing {field}, as in '{field}: {example}'")
    name = text(raw, "name", where, name)
    return Gpu(name=name, sources=sources, **{"title": name, **values})
