"""Reading models, GPUs, engines and prices. Names, aliases and paths are interchangeable everywhere."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from kvplan.errors import ECHOED, SpecError, UnknownName, shown
from kvplan.specs.calibration import Calibration
from kvplan.specs.catalog_files import Document, path_of, read_json, read_text, read_yaml
from kvplan.specs.catalog_shipped import document
from kvplan.specs.catalog_shipped import names as names
from kvplan.specs.catalog_shipped import shelf as shelf
from kvplan.specs.catalog_shipped import shipped as shipped
from kvplan.specs.hardware import GPU_FIELDS, Engine, Gpu, Price
from kvplan.specs.model import ModelSpec, Quantization
from kvplan.specs.quantization import COMPUTE, FORMATS
from kvplan.specs.reader import read_model
from kvplan.specs.serving_profile import ServingProfile, read_serving_profile
from kvplan.specs.source import KINDS, Source
from kvplan.units import parse

# -- fields --------------------------------------------------------------------------------------


def known_fields(raw: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a field that is none of the known ones, with the nearest."""
    for key in raw:
        if key not in known:
            raise UnknownName("field", key, known, f"known: {', '.join(known)}", where)


def mapping(raw: object, where: str, example: str) -> Document:
    """Return fields, or refuse what is none, with an example to copy."""
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: expected fields, as in {example}, got {shown(raw)}")
    return raw


# -- names ----------------------------------------------------------------------------------------

_FORMATS = re.compile(r"-(fp8|nvfp4|fp4|awq|gptq|int4|int8|mxfp4|w4a16)(-dynamic|-static|-int4|-quantized.*)?$")
_SUFFIX = re.compile(r"-(instruct|it|chat|hf|base|bf16)$")


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, no organisation, no '-Instruct', one kind of separator."""
    bare = name.strip().lower().rsplit("/", 1)[-1].replace("_", "-").replace(" ", "-")
    shorter = _SUFFIX.sub("", bare)
    while shorter != bare:
        bare, shorter = shorter, _SUFFIX.sub("", shorter)
    return bare


@cache
def _aliases(kind: str) -> dict[str, str]:
    """Map every alias on a shelf to its name. Reads only the two lines that matter of each file."""
    found: dict[str, str] = {}
    for name in names(kind):
        line = re.search(r"^aliases:\s*\[(.*)\]\s*(?:#.*)?$", shipped(kind, name), re.MULTILINE)
        for alias in re.findall(r'"([^"]*)"|([^,\s][^,]*)', line[1]) if line else ():
            found.setdefault((alias[0] or alias[1]).strip().lower(), name)
    for alias, name in list(found.items()):
        found.setdefault(plain(alias), name)
    return found


def resolve(kind: str, word: str, noun: str) -> str:
    """Return the shelf name for a name or an alias; UnknownName suggests the nearest."""
    for tried in (word, word.strip().lower(), plain(word)):
        if tried in names(kind):
            return tried
    aliases = _aliases(kind)
    for tried in (word.strip().lower(), plain(word)):
        if tried in aliases:
            return aliases[tried]
    listed = {"serving": "profiles", "calibrations": "profiles"}.get(kind, kind)
    raise UnknownName(noun, word, (*names(kind), *aliases), f"see `kvplan list {listed}`, or give a path")


def as_path(word: str) -> Path | None:
    """Return the path a word means: it exists, or is written like one."""
    try:
        path = path_of(word)
        if path.exists() and (path.suffix in (".json", ".yaml", ".yml") or path.is_dir() or "/" in word):
            return path
    except (OSError, SpecError):
        raise SpecError(f"{shown(word)} is neither a name nor a path") from None
    written = word.startswith(("./", "../", "/", "~")) or word.endswith((".json", ".yaml", ".yml"))
    if written:
        raise SpecError(f"{word}: no such file or folder")
    return None


# -- sources --------------------------------------------------------------------------------------


def read_source(raw: object, where: str) -> Source:
    if not isinstance(raw, Mapping) or not all(isinstance(raw.get(k), (str, date)) for k in ("kind", "ref", "date")):
        raise SpecError(
            f"{where}: source must say kind, ref and date, "
            "as in {kind: datasheet, ref: https://..., date: 2026-11-23}"
        )
    if raw["kind"] not in KINDS:
        raise SpecError(f"{where}: source kind must be one of {', '.join(KINDS)}, got {shown(raw['kind'])}")
    return Source(kind=raw["kind"], ref=str(raw["ref"]), date=day(raw["date"], f"{where}: source: date"))


def day(raw: object, where: str) -> str:
    """Read a date such as 2026-11-23."""
    try:
        return date.fromisoformat(str(raw)[:ECHOED]).isoformat()
    except ValueError:
        raise SpecError(f"{where}: expected a date such as 2026-11-23, got {shown(raw)}") from None


def _here(path: Path) -> Source:
    return Source(kind="config", ref=str(path), date=date.fromtimestamp(path.stat().st_mtime).isoformat())


# -- models ---------------------------------------------------------------------------------------


def model(word: str) -> ModelSpec:
    """Return a model by name, alias, config.json, folder with one, or YAML file."""
    path = as_path(word)
    if path is not None:
        return _model_at(path)
    try:
        return _model_named(resolve("models", word, "model"))
    except UnknownName:
        found = _variant(word)
        if found is None:
            raise
        return found


@cache
def _model_named(name: str) -> ModelSpec:
    where = f"{name}.yaml"
    return _model_file(document("models", name), name, where, None)


def _model_at(path: Path) -> ModelSpec:
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise SpecError(f"{path.parent}: holds no config.json")
    text = read_text(path, path.name)
    if path.suffix in (".yaml", ".yml"):
        raw = read_yaml(text, path.name, typed=True)
        if "config" in raw:
            return _model_file(raw, path.stem, path.name, _here(path))
    else:
        raw = read_json(text, path.name)
    beside = path.with_name("hf_quant_config.json")  # where NVIDIA's checkpoints describe their quantisation
    if "quantization_config" not in raw and beside.is_file():
        described = read_json(read_text(beside, beside.name), beside.name).get("quantization")
        raw["quantization_config"] = {"quant_method": "modelopt", **(described if isinstance(described, dict) else {})}
    name = path.parent.resolve().name if path.name == "config.json" else path.stem
    return read_model(raw, name=name, where=path.name, source=_here(path))


def _variant(word: str) -> ModelSpec | None:
    """Return a catalogue model under the weight format its name ends with, None without one.

    As in 'nvidia/Qwen3-32B-NVFP4'.
    """
    match = _FORMATS.search(plain(word))
    if match is None:
        return None
    form = {"awq": "int4", "gptq": "int4", "w4a16": "int4", "fp4": "nvfp4"}.get(match[1], match[1])
    found = model(resolve("models", plain(word)[: match.start()], "model"))
    how = Quantization(method=form, bits=FORMATS[form], compute=COMPUTE.get(form, 16))
    return replace(found, title=f"{found.title} {form}", quantization=how)


def _model_file(raw: Document, name: str, where: str, default: Source | None) -> ModelSpec:
    config = raw.get("config")
    if not isinstance(config, dict):
        raise SpecError(f"{where}: config must hold the fields of a config.json")
    source = read_source(raw["source"], where) if "source" in raw or default is None else default
    titles = {"name": str(raw.get("name", name)), "title": str(raw.get("title", name))}
    found = read_model(config, **titles, where=where, source=source)
    return replace(found, longer=str(raw.get("longer", "")))


# -- GPUs -----------------------------------------------------------------------------------------


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
    values, sources = _fields(raw, GPU_FIELDS, where)
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


def _fields(raw: Document, units: Mapping[str, str], where: str) -> tuple[Document, dict[str, Source]]:
    """Return the values of a text document in base units, and the source of each field."""
    if "source" not in raw:
        raise SpecError(
            f"{where}: missing source; every figure needs one, "
            "as in source: {kind: datasheet, ref: https://..., date: 2026-11-23}"
        )
    default = read_source(raw["source"], where)
    unknown = sorted(set(raw) - set(units) - {"name", "aliases", "source"})
    if unknown:
        raise SpecError(f"{where}: unknown field {shown(unknown[0])}; known: {', '.join(units)}")
    values: Document = {}
    sources: dict[str, Source] = {}
    for field, unit in units.items():
        if field not in raw:
            continue
        value, sources[field] = raw[field], default
        if isinstance(value, Mapping):
            sources[field] = read_source(value.get("source"), f"{where}: {field}")
            value = value.get("value")
        values[field] = str(value) if unit == "" else _positive(value, unit, f"{where}: {field}")
    return values, sources


def _positive(value: object, unit: str, where: str) -> float | int:
    number = parse(value, "1" if unit == "#" else unit, where)
    if not 0 < number < 1e21:
        raise SpecError(f"{where}: must be above zero and finite, got {shown(value)}")
    if unit == "#" and number != int(number):
        raise SpecError(f"{where}: must be a whole number, got {shown(value)}")
    return int(number) if unit == "#" else number


# -- engines --------------------------------------------------------------------------------------


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
    values, sources = _fields({k: v for k, v in raw.items() if k not in lists}, units, where)
    try:
        values["large_except"] = tuple(raw.get("large_except", ()))
        values["runtime"] = {int(n): parse(amount, "B", where) for n, amount in raw["runtime"].items()}
        for size in ("small", "large"):
            values[size] = (int(raw[size]["max_num_seqs"]), int(raw[size]["max_num_batched_tokens"]))
        return Engine(name=name, sources=sources, **values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"{where}: {error}; compare with the engine file kvplan ships") from None


# -- calibrations ---------------------------------------------------------------------------------


def serving_profile(word: str = "published") -> ServingProfile:
    """Return what was fitted of servers, by name or YAML file."""
    path = as_path(word)
    if path is None:
        return _serving_named(resolve("serving", word, "serving profile"))
    return _serving_text(read_text(path, path.name), path.name)


@cache
def _serving_named(name: str) -> ServingProfile:
    return _serving(document("serving", name), f"{name}.yaml")


@cache
def _serving_text(text: str, where: str) -> ServingProfile:
    return _serving(read_yaml(text, where, typed=True), where)


def _serving(raw: Document, where: str) -> ServingProfile:
    if raw.get("kind") != "serving":
        raise SpecError(f"{where}: is no profile of servers; kvplan calibrate makes one of end-to-end rows")
    return read_serving_profile(raw, read_source(raw.get("source"), where), where)


def is_serving(word: str) -> bool:
    """Return whether a name or a YAML file is a profile of servers."""
    path = as_path(word)
    if path is None or path.suffix not in (".yaml", ".yml"):
        return word in names("serving")
    return read_yaml(read_text(path, path.name), path.name, typed=False).get("kind") == "serving"


def calibration(
    device: Gpu, engine: str = "vllm", about: ModelSpec | None = None, profile: str = "published"
) -> Calibration:
    """Return what a server of this GPU and engine reaches, and how sure that is for a model."""
    return serving_profile(profile).calibrate(device, engine, (about.name, about.longer) if about else ())


# -- prices ---------------------------------------------------------------------------------------


@cache
def prices() -> tuple[Price, ...]:
    """Return every price on the shelf, past ones included."""
    return tuple(price for name in names("prices") for price in _price_file(name, document("prices", name)))


def _price_file(name: str, raw: Document) -> Iterator[Price]:
    where = f"{name}.yaml"
    default = read_source(raw.get("source"), where)
    for entry in raw["prices"]:
        source = read_source(entry["source"], where) if "source" in entry else default
        yield Price(
            gpu=entry["gpu"],
            provider=name,
            term=entry["term"],
            price=parse(entry["price"], "USD/s", f"{where}: {entry['gpu']}"),
            start=entry["from"],
            end=entry.get("to"),
            note=entry.get("note", ""),
            source=source,
        )


def offers(gpu_name: str, day: str, term: str = "on-demand") -> tuple[Price, ...]:
    """Return the prices of a GPU current on a day, cheapest first; none when none is known (never a zero)."""
    found = (p for p in prices() if p.gpu == gpu_name and p.term == term and p.current(day))
    return tuple(sorted(found, key=lambda p: p.price))
