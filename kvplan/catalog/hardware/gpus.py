"""GPUs by name, alias or YAML file."""

from datetime import date
from functools import cache
from pathlib import Path

from kvplan.catalog.fields import complete, figures, shelf_document, text
from kvplan.catalog.files import Document
from kvplan.catalog.hardware.cards import gpu_name
from kvplan.catalog.lookup import as_path
from kvplan.errors import SpecError
from kvplan.specs.hardware import GPU_FIELDS, Gpu
from kvplan.specs.source import Source

#: what every GPU file states, with an example to copy
NEEDED = {"memory": "80 GB", "bandwidth": "3.35 TB/s"}
#: rates of which it states at least one, and how many times the 16-bit one each is on GPUs that have it
RATES = {"bf16": 1.0, "fp16": 1.0, "fp8": 2.0, "int8": 2.0, "fp4": 4.0, "fp32": 1.0}
#: what joins GPUs where a file does not say: PCIe 4.0 x16, which nearly every card has [B/s]
LINK, LINK_KIND = 32e9, "PCIe"


def gpu(word: str) -> Gpu:
    """Return a GPU by name, alias (measurement files', NVML's) or YAML file; raise SpecError, UnknownName."""
    return _read(word) if as_path(word) else _named(gpu_name(word))


@cache
def _named(name: str) -> Gpu:
    return _read(name)


def _read(word: str) -> Gpu:
    raw, name, location = shelf_document("gpus", word, "GPU")
    path = as_path(word)
    if path is not None and "source" not in raw:
        raw = {**raw, "source": _own(path)}
    values, sources = figures(raw, GPU_FIELDS, location, "gpu")
    complete(values, NEEDED, location)
    if not any(values.get(rate) for rate in RATES):
        raise SpecError(f"{location}: missing a rate, as in 'fp16: 989 TFLOP/s'; known: {', '.join(RATES)}")
    assumed = _derived(values)
    for field, (value, reason) in assumed.items():
        values[field], sources[field] = value, Source(kind="assumption", ref=reason, date=sources["memory"].date)
    name = text(raw, "name", location, name)
    notes = tuple(f"{field} {reason}" for field, (_, reason) in assumed.items())
    return Gpu(name=name, sources=sources, assumed=notes, **{"title": name, **values})


def _derived(values: Document) -> dict[str, tuple[float | str, str]]:
    """Return what follows from a file's figures where it does not say: field -> (value, why)."""
    derived: dict[str, tuple[float | str, str]] = {}
    if "visible_memory" not in values:
        derived["visible_memory"] = values["memory"], "as sold"
    if "fp16" not in values:
        rate = next(rate for rate in RATES if rate in values)
        share = {1.0: "as", 2.0: "half of", 4.0: "a quarter of"}[RATES[rate]]
        derived["fp16"] = values[rate] / RATES[rate], f"{share} {rate}"
    if "link" not in values:
        derived["link"] = LINK, "PCIe 4.0 x16, 32 GB/s one way"
        if "link_kind" not in values:
            derived["link_kind"] = LINK_KIND, "PCIe 4.0 x16"
    return derived


def _own(path: Path) -> Document:
    """Return the source of a user's file that names none: the file, and its day."""
    return {"kind": "quote", "ref": str(path), "date": date.fromtimestamp(path.stat().st_mtime).isoformat()}
