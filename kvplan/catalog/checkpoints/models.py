"""Models: config.json files and folders, the catalogue, and weight formats that names end with."""

import json
import re
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kvplan import CODE
from kvplan.architectures.config import Defaults
from kvplan.architectures.reader import read_model
from kvplan.catalog.checkpoints.hub_files import INDEX, NAME, described, snapshot, total_size
from kvplan.catalog.fields import mapping, read_source, text, titles
from kvplan.catalog.files import Document, called, path_of, read_json, read_text, read_yaml
from kvplan.catalog.lookup import as_path, every_name, named, plain, resolve, swapped, uploads
from kvplan.catalog.shelves import document, names
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.model import ModelSpec, Quantization
from kvplan.specs.source import Source

if TYPE_CHECKING:
    from kvplan.catalog.checkpoints.uploads import Upload

#: what no config.json has, but every file of a workload; a model that messages name
WORKLOAD, EXAMPLE = ("task", "arrivals", "slo"), "llama3.1-8b"

#: what names of base models end with, and of those tuned to follow instructions
BASE, TUNED = "-base", ("-instruct", "-it", "-chat")


def model(word: str, as_family: str | None = None) -> ModelSpec:
    """Return a model by name, alias, config.json, folder with one, or YAML file; raise SpecError, UnknownName.

    `as_family` is the architecture to read its config as, whatever it states.
    """
    path = as_path(word)
    if path is not None:
        return _model_at(path, as_family)
    try:
        own = word if word in names("models") else uploads().get(word.strip().lower())  # its own name reads no others
        return _known(own or resolve("models", word, "model"), as_family, word)
    except UnknownName:
        if folder := snapshot(word):
            return folder.told(_model_at(folder.folder, as_family))
        variant = _variant(word, as_family)
        if variant is None:
            refuse_other(word)
            raise
        return variant


def refuse_other(word: str) -> None:
    """Raise what says why a name is not read as a known model, where that is known: a word of it, or a workload."""
    from kvplan.catalog.checkpoints.uploads import encodes, why_not

    if named("workloads", word):
        raise swapped(word, "workload", "model", EXAMPLE)
    if encodes(word):
        why = f"{shown(word)} is an encoder: it reads a text once and keeps no KV cache; there is nothing to plan"
        raise SpecError(f"{why}, give a model that generates text")
    if reason := why_not(word) or _unpublished(word):
        raise UnknownName("model", word, (), f"{reason}; give its config.json, or fetch it with online=True")


def _unpublished(word: str) -> str:
    """Return what keeps a checkpoint of the hub from being read: that its config is not on the shelf; near names."""
    if not NAME.fullmatch(word):
        return ""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), sorted(every_name("models")), n=2, cutoff=0.6)
    close = f" (of a like name: {' and '.join(near)})" if near else ""
    return f"its published config is not one that kvplan ships{close}"


def tuned(checkpoint: str) -> str:
    """Return the instruction-tuned checkpoint that the shelf names beside a base one, '' where it names none."""
    name = every_name("models").get(checkpoint.lower())
    stem = bare(checkpoint).removesuffix(BASE)
    wanted = {stem + ending for ending in (*TUNED, "")} - {bare(checkpoint)}
    raw = document("models", name) if name else {}
    others = [*(raw.get("aliases") or ()), *(raw.get("derived") or ())]
    return next((other for other in others if bare(other) in wanted), "")


def lost(checkpoint: str) -> bool:
    """Return whether a checkpoint is written as a path of this machine, and nothing is there."""
    if not checkpoint.startswith(("./", "../", "/", "~")):
        return False
    try:
        return not path_of(checkpoint).exists()
    except OSError:  # a name too long, a folder one may not read
        return True


def bare(checkpoint: str) -> str:
    """Return a checkpoint's name in lower case, without the mark of transformers' own form."""
    return checkpoint.lower().removesuffix("-hf")


def all_models() -> tuple[ModelSpec, ...]:
    """Return every model on the shelf."""
    return tuple(_model_named(name) for name in names("models"))


@cache
def class_defaults() -> Defaults:
    """Return the defaults of transformers' config classes by model type."""
    text = (CODE / "architectures" / "class_defaults.json").read_text("utf-8")
    defaults: Defaults = json.loads(text)["model_types"]
    return defaults


@cache
def _known(name: str, as_family: str | None, word: str) -> ModelSpec:
    """Return a model of the shelf by the word a user wrote; a model made from it says what of it was taken."""
    spec = _model_named(name, as_family, word)
    if word == name:
        return spec
    raw = document("models", name)
    others = [str(m) for m in (*(raw.get("derived") or ()), *(raw.get("uploads") or ()))]
    alike = [m for m in others if _same(word, m, name)]  # '-Instruct' and '-Base' are spellings of one another here
    made = next((m for m in alike if m.lower() == word.strip().lower()), alike[0] if alike else "")
    if not made:
        return spec
    if _release(raw, name, word, f"{name}.yaml")[1]:
        note, *more = spec.notes
        return replace(spec, notes=(f"{note}; its weights are counted in {_width(spec)}", *more))
    note = f"{shown(made)} is read as {name}, whose shape it has; its weights are counted in {_width(spec)}"
    return replace(spec, notes=(note, *spec.notes))


def _same(word: str, other: str, name: str) -> bool:
    """Return whether a word is another spelling of one of the names that a model of the shelf goes by."""
    return bool(word) and (word.strip().lower() == other.lower() or plain(word) == plain(other) != name)


def _width(spec: ModelSpec) -> str:
    """Return the format of a model's own weights and what an element takes, in words."""
    how = spec.quantization
    if how is None:
        return f"16 bits ({spec.dtype})"
    cached = f", with a cache of {how.kv_bits:.4g} bits" if how.kv_bits else ""
    return (f"{how.bits:.4g} bits ({how.method})" if how.bits else f"several widths ({how.method})") + cached


@cache
def _model_named(name: str, as_family: str | None = None, word: str = "") -> ModelSpec:
    """Return a model of the shelf; where `word` names one of its releases, with what that release's config changes."""
    location, raw = f"{name}.yaml", document("models", name)
    release, changes = _release(raw, name, word, location)
    if not changes:
        return _model_file(raw, name, location, None, as_family)
    config = {**mapping(raw.get("config"), f"{location}: config"), **changes}
    spec = _model_file({**raw, "config": config}, name, location, None, as_family)
    seen = release not in (raw.get("unseen") or {})
    why = "as its own config.json says" if seen else "as is published of it; its own config.json was not seen"
    note = f"{shown(release)} is read as {name} with {', '.join(_told(changes))}, {why}"
    return replace(spec, notes=(note, *spec.notes))


def _release(raw: Document, name: str, word: str, location: str) -> tuple[str, Document]:
    """Return the release of a shelf model that a word names, and the config fields that differ in it; ('', {}).

    Releases under `unseen` state what is published of one whose config.json was not read.
    """
    for kind in ("releases", "unseen"):
        for release, changes in mapping(raw.get(kind) or {}, f"{location}: {kind}").items():
            if _same(word, str(release), name):
                return str(release), mapping(changes, f"{location}: {kind}: {release}")
    for upload, changes in mapping(raw.get("uploads") or {}, f"{location}: uploads").items():
        if word.strip().lower() == upload.lower():
            return upload, mapping(changes, f"{location}: uploads: {upload}")
    return "", {}


def _told(changes: Document) -> list[str]:
    """Return changed fields in words."""
    return [f"{f} {v:,}" if isinstance(v, int) else f"its own {f}" for f, v in changes.items()]


def _model_at(path: Path, as_family: str | None) -> ModelSpec:
    if path.is_dir():
        files = described(path)
        if not files:
            raise SpecError(f"{path}: holds no config.json")
        if len(files) > 1:
            raise SpecError(f"{path}: holds {len(files)} GGUF files; give one of them, as in {path / files[0].name}")
        path = files[0]
    if path.suffix == ".gguf":
        return _gguf_at(path, as_family)
    content = read_text(path, called(path))
    if path.suffix in (".yaml", ".yml"):
        raw = read_yaml(content, called(path), typed=True)
        if "config" in raw:
            return _model_file(raw, path.stem, called(path), _here(path), as_family)
        if not raw.keys().isdisjoint(WORKLOAD):
            raise swapped(str(path), "workload", "model", EXAMPLE)
    else:
        raw = read_json(content, called(path))
    beside = path.with_name("hf_quant_config.json")  # where NVIDIA's checkpoints describe their quantisation
    if "quantization_config" not in raw and beside.is_file():
        stated = read_json(read_text(beside, called(beside)), called(beside)).get("quantization")
        raw["quantization_config"] = {"quant_method": "modelopt", **(stated if isinstance(stated, dict) else {})}
    whole = path.name in ("config.json", "params.json")  # of a folder that holds the weights
    name = path.parent.resolve().name if whole else path.stem
    spec = read_model(
        raw, name=name, place=called(path), source=_here(path), classes=class_defaults(), as_family=as_family
    )
    return replace(spec, file_bytes=tensor_bytes(path.parent) if whole else None)


#: how the files of a folder are called where no index names them, in the order they are looked for
SAFETENSORS = ("model.safetensors", "model-*-of-*.safetensors", "consolidated.safetensors")


def tensor_bytes(folder: Path) -> int | None:
    """Return the bytes of a folder's safetensors, as their index or their headers say; None where it has none. [B]"""
    index = folder / INDEX
    if index.is_file():
        return total_size(index)
    files = next((found for pattern in SAFETENSORS if (found := sorted(folder.glob(pattern)))), [])
    sizes = [_tensors(path) for path in files if path.is_file()]
    stated = re.search(r"-of-(\d{5})", files[0].name) if files else None
    whole = len(sizes) == (int(stated[1]) if stated else 1)
    return sum(size for size in sizes if size) if whole and all(sizes) else None


def _tensors(path: Path) -> int | None:
    """Return the bytes of one file of safetensors without its header; None where that is none. [B]"""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return size - 8 - header if 0 < header < size - 8 else None


def _gguf_at(path: Path, as_family: str | None) -> ModelSpec:
    from kvplan.catalog.checkpoints.gguf import read_gguf

    header = read_gguf(path)
    spec = read_model(
        header.config,
        name=path.stem,
        place=called(path),
        source=_here(path),
        classes=class_defaults(),
        as_family=as_family,
    )
    return replace(spec, quantization=header.quantization, notes=(*spec.notes, *header.notes))


def _variant(word: str, as_family: str | None) -> ModelSpec | None:
    """Return the model an upload has the shape of, in the weight format its name ends with; None for a name of neither.

    As in 'nvidia/Qwen3-32B-NVFP4' and 'Hermes-3-Llama-3.1-8B-GPTQ-Int4'; a remark says what was read from the name.
    """
    from kvplan.catalog.checkpoints.uploads import upload

    said = upload(word)
    if said is None:
        return None
    spec = _model_named(said.base, as_family, said.known)
    if said.parameters and not 0.85 < spec.parameters / said.parameters < 1.15:  # deepseek-r1:1.5b is another
        return None
    how = _stored(said, spec)
    linear = how is not None and how.bits is not None and how.bits < 8 and not how.skip and _linear(spec)
    note = _read_by_name(word, said, spec, how) + (f"; {LINEAR}" if linear else "")
    guessed = (f"assumed: {note}; its own config.json was not seen",) if said.tuned or linear else ()
    return replace(
        spec,
        title=f"{spec.title} {how.method}" if how else spec.title,
        quantization=how if said.form else spec.quantization,
        assumed=guessed + spec.assumed,
        max_context=said.context or spec.max_context,
        notes=(*(guessed or (note,)), *spec.notes),
    )


def _stored(said: "Upload", spec: ModelSpec) -> Quantization | None:
    """Return how an upload of a model stores its matrices, None where its name says no format, or one of 16 bits."""
    how = said.form.stored(spec) if said.form else None
    if how is None:
        return None
    how = how if said.skip is None else replace(how, skip=said.skip)
    return replace(how, kv_bits=said.kv_bits) if said.kv_bits else how


def _read_by_name(word: str, said: "Upload", spec: ModelSpec, how: Quantization | None) -> str:
    """Return what was read from the name of an upload, as a remark."""
    note = f"{shown(word)} is read by its name: the shape of {spec.name}"
    if how is not None:
        note += f", with {how.method} weights of {how.bits:.4g} bits" + (" and an 8-bit cache" if how.kv_bits else "")
        note += f", its experts of {said.form.experts:.4g}" if said.form and said.form.experts else ""
    elif said.form or not said.remark:
        note += f", with weights of {_width(replace(spec, quantization=None) if said.form else spec)}"
    if said.context:
        note += f", for {said.context:,} tokens"
    if said.remark:
        own = spec.quantization.bits if spec.quantization else 16.0
        note += f"; {said.remark.format(f'the {own:.4g} bits it was published in' if own else 'its own widths')}"
    return note


#: what the format in the name of an upload leaves open. Safetensors of Qwen3.6's and 3.8's 27B are 17.3 to 20.8 GiB as
#: int4, AWQ, GPTQ and bitsandbytes of their makers, 28.2 as Qwen's own GPTQ, 20.4 to 24.6 as NVFP4 (headers, 2026-09)
LINEAR = "uploads of models with linear attention keep different parts of it in 16 bits, up to 60 % more bytes in all"


def _linear(spec: ModelSpec) -> bool:
    return any(".linear_attn." in name for name, _ in spec.weights())


def _model_file(
    raw: Document, name: str, location: str, default: Source | None, as_family: str | None = None
) -> ModelSpec:
    config = mapping(raw.get("config"), f"{location}: config", "{model_type: llama, hidden_size: 4096, ...}")
    source = read_source(raw["source"], location) if "source" in raw or default is None else default
    spec = read_model(
        config,
        **titles(raw, name, location),
        place=location,
        source=source,
        classes=class_defaults(),
        as_family=as_family,
    )
    return replace(spec, longer=text(raw, "longer", location, ""))


def _here(path: Path) -> Source:
    return Source(kind="config", ref=str(path), date=date.fromtimestamp(path.stat().st_mtime).isoformat())
