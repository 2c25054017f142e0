"""Engines: the memory rules of each, by name or YAML file."""

from functools import cache

from kvplan.catalog.fields import figures
from kvplan.catalog.files import read_text, read_yaml
from kvplan.catalog.lookup import as_path, resolve
from kvplan.catalog.shelves import document
from kvplan.errors import SpecError
from kvplan.specs.hardware import Engine
from kvplan.units import parse


@cache
def engine(word: str = "vllm") -> Engine:
    """Return an engine's memory rules by name or YAML file."""
    path = as_path(word)
    name = path.stem if path else resolve("engines", word, "engine")
    where = path.name if path else f"{name}.yaml"
    raw = read_yaml(read_text(path, where), where, typed=False) if path else document("engines", name)
    units = {
        "title": "",
        "version": "",
        "utilization": "1",
        "block_size": "#",
        "latent_block_size": "#",
        "large_memory": "B",
        "sampler_bytes_per_logit": "B",
    }
    lists = {"large_except", "small", "large", "runtime"}
    values, sources = figures({k: v for k, v in raw.items() if k not in lists}, units, where)
    try:
        values["large_except"] = tuple(raw.get("large_except", ()))
        values["runtime"] = {int(n): parse(amount, "B", where) for n, amount in raw["runtime"].items()}
        for size in ("small", "large"):
            values[size] = (int(raw[size]["max_num_seqs"]), int(raw[size]["max_num_batched_tokens"]))
        return Engine(name=name, sources=sources, **values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"{where}: {error}; compare with the engine file kvplan ships") from None
