"""Checkpoints of the Hugging Face hub: their config.json, from the local cache, or fetched into it when that is asked.

Nothing here opens a connection unless `online` is in force; weights and code are never fetched.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from kvplan.catalog.files import called, read_json, read_text, write_whole
from kvplan.errors import SpecError
from kvplan.specs.model import ModelSpec
from kvplan.specs.source import Source

#: a checkpoint's name on the hub: an organisation and a name, neither of them a folder's '.' or '..'
NAME = re.compile(r"(?!\.)[\w.-]{1,96}/(?!\.)[\w.-]{1,96}", re.ASCII)
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
#: what describes a model where there is no config.json: Mistral's own format, and GGUF files (not their vision towers,
#: nor the later parts of a split one)
PARAMS, GGUF, APART = "params.json", "*.gguf", re.compile(r"mmproj|-(?!00001)\d{5}-of-\d{5}\.gguf$")
#: what is fetched of a checkpoint beside its config, where it has them: descriptions, a few MB at most
BESIDE = ("hf_quant_config.json", INDEX)
#: what is kept beside the snapshots of a checkpoint in one file, which has no index: the bytes its header adds up to
HEADER = "kvplan-header.json"
#: no checkpoint holds more [B]
LARGEST = 1e15
#: letters of a revision in a cache, which are hexadecimal
REVISION = re.compile(r"[0-9a-f]{7,64}")

_online: ContextVar[bool] = ContextVar("online", default=False)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A checkpoint's descriptions in the hub's cache."""

    name: str  #: organisation and name
    folder: Path  #: the folder that has the file which describes it

    def told(self, spec: ModelSpec) -> ModelSpec:
        """Return a model read from the folder under the checkpoint's name and address, with its size where it says."""
        source = Source(
            kind="config",
            ref=f"https://huggingface.co/{self.name}/blob/{self.folder.name}/{described(self.folder)[0].name}",
            date=spec.source.date,
        )
        size, basis = self._size()
        notes = (f"its checkpoint holds {size:,} B of tensors ({basis})",) if size else ()
        return replace(
            spec, name=self.name, title=self.name, source=source, notes=(*spec.notes, *notes),
            file_bytes=size or spec.file_bytes,
        )  # fmt: skip

    def _size(self) -> tuple[int, str]:
        """Return the bytes of the checkpoint's tensors as its index or header states them, and which; 0 for neither."""
        for path, basis in (
            (self.folder / INDEX, INDEX),
            (self.folder.parent.parent / HEADER, "the header of its file"),
        ):
            if path.is_file() and (size := total_size(path)):
                return size, basis
        return 0, ""


def total_size(index: Path) -> int | None:
    """Return the bytes of a checkpoint's tensors as an index states them, None where that is no size. [B]"""
    stated = read_json(read_text(index, called(index)), called(index)).get("metadata")
    size = stated.get("total_size") if isinstance(stated, dict) else None
    known = isinstance(size, int | float) and not isinstance(size, bool) and 0 < size < LARGEST
    return int(size) if known and size is not None else None


@contextmanager
def online() -> Iterator[None]:
    """Let models that are neither known nor in the hub's cache be fetched from the hub, as long as this is in force."""
    before = _online.set(True)
    try:
        yield
    finally:
        _online.reset(before)


def snapshot(word: str) -> Snapshot | None:
    """Return a checkpoint by its name on the hub: from its cache, else fetched when `online`; None where it is neither.

    Raises SpecError for what goes wrong on the way.
    """
    if not NAME.fullmatch(word):
        return None
    folder = _cached(word)
    if folder is None and _online.get():
        _fetch(word)
        folder = _cached(word)
    return Snapshot(name=word, folder=folder) if folder is not None else None


def described(folder: Path) -> list[Path]:
    """Return the file of a folder that describes its model: config.json, else params.json, else its GGUF files."""
    for name in (CONFIG, PARAMS):
        if (folder / name).is_file():
            return [folder / name]
    return [path for path in sorted(folder.glob(GGUF)) if path.is_file() and not APART.search(path.name)]


def cache() -> Path:
    """Return the folder of the hub's cache: HF_HUB_CACHE, else `hub` in HF_HOME, which is in the user's caches."""
    environment = os.environ
    if environment.get("HF_HUB_CACHE"):
        return Path(environment["HF_HUB_CACHE"]).expanduser()
    home = environment.get("HF_HOME")
    place = Path(home) if home else Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return place.expanduser() / "hub"


def _cached(name: str) -> Path | None:
    """Return the cached snapshot that `main` points to, else the newest one, of those that one file describes."""
    try:
        place = cache() / f"models--{name.replace('/', '--')}"
        pointer = place / "refs" / "main"
        if pointer.is_file():
            revision = read_text(pointer, "refs/main", 1000).strip()
            if REVISION.fullmatch(revision) and len(described(place / "snapshots" / revision)) == 1:
                return place / "snapshots" / revision
        snapshots = [folder for folder in (place / "snapshots").glob("*") if len(described(folder)) == 1]
        return max(snapshots, key=lambda folder: folder.stat().st_mtime, default=None)
    except (OSError, RuntimeError):
        return None


def _fetch(name: str) -> None:
    """Fetch a checkpoint's descriptions into the hub's cache; raise SpecError where there is no way to."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError:
        raise SpecError("online: needs the package huggingface_hub: pip install 'kvplan[hub]'") from None
    try:
        hf_hub_download(name, CONFIG, cache_dir=cache())
        for file in BESIDE:
            with suppress(EntryNotFoundError):
                hf_hub_download(name, file, cache_dir=cache())
        _keep_header(name)
    except Exception as error:  # requests', httpx's and the hub's own, by release
        why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise SpecError(f"online: {name}: its {CONFIG} cannot be fetched ({type(error).__name__}: {why})") from None


def _keep_header(name: str) -> None:
    """Keep the size that the header of a checkpoint in one file states, where it has no index.

    The client reads the header alone, by a range request of some 100 KB; what goes wrong leaves the size unknown.
    """
    folder = _cached(name)
    if folder is None or (folder / INDEX).is_file():
        return
    try:
        from huggingface_hub import get_safetensors_metadata

        files = get_safetensors_metadata(name).files_metadata.values()
        size = sum(max((t.data_offsets[1] for t in f.tensors.values()), default=0) for f in files)
    except Exception:  # no safetensors, or a client that cannot
        return
    write_whole(folder.parent.parent / HEADER, json.dumps({"metadata": {"total_size": size}}))
