"""GPUs by name, alias or YAML file."""

from functools import cache

from kvplan.catalog.fields import figures
from kvplan.catalog.files import Document, read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError
from kvplan.specs.hardware import GPU_FIELDS, Gpu


def gpu(word: str) -> Gpu:
    """Return a GPU by name, alias (measurement files', NVML's) or YAML file."""
    path = as_path(word)
    if path is None:
        return _gpu_named(resolve("gpus", word, "GPU"))
    return _gpu_file(path.stem, read_yaml(read_text(path, path.name), path.name, typed=False), path.name)


@cache
def _gpu_named(name: str) -> Gpu:
    return _gpu_file(name, document("gpus", name), f"{name}.yaml")


def _gpu_file(name: str, raw: Document, where: str) -> Gpu:
    values, sources = figures(raw, GPU_FIELDS, where)
    values.setdefault("visible_memory", values.get("memory"))
    values.setdefault("fp16", values.get("bf16"))
    for field, example in (
        ("memory", "80 GB"),
        ("bandwidth", "3.35 TB/s"),
        ("fp16", "989 TFLOP/s"),
        ("link", "450 GB/s"),
    ):
        if values.get(field) is None:
            raise SpecError(f"{where}: missing {field}, as in '{field}: {example}'")
    return Gpu(name=str(raw.get("name", name)), sources=sources, **{"title": str(raw.get("name", name)), **values})
