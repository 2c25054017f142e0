"""Latents in a file: bases of every layer as safetensors, with what they were learned for."""

import json

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from kvplan.catalog.checkpoints.weights import read_latents
from kvplan.compress.forms import Basis
from kvplan.compress.latents import Learned
from kvplan.compress.models import Loaded
from kvplan.errors import SpecError

#: of the header: what wrote it, and its version
FORMAT = "kvplan latents 1"


def saved(learned: Learned, loaded: Loaded) -> bytes:
    """Return latents as the bytes of a safetensors file; 32 bits, some hundred thousandths of a model's weights."""
    tensors = {}
    for place, bases in learned.latents.items():
        for name, basis in zip(("keys", "values"), bases, strict=True):
            tensors[f"layers.{place}.{name}.directions"] = basis.directions.cpu().contiguous()
            tensors[f"layers.{place}.{name}.mean"] = basis.mean.cpu().contiguous()
            if basis.rebuilding is not None:
                tensors[f"layers.{place}.{name}.rebuilding"] = basis.rebuilding.cpu().contiguous()
    held = {str(place): share for place, share in learned.held.items()}
    about = {"format": FORMAT, "technique": learned.technique, "model": loaded.spec.name, "held": json.dumps(held)}
    return bytes(safetensors.torch.save(tensors, metadata=about))


def restored(content: bytes, loaded: Loaded, location: str) -> Learned:
    """Return latents of a file; SpecError where it is none, or of a model with other layers."""
    about = header(content, location)
    try:
        tensors = safetensors.torch.load(content)
        places = sorted({int(name.split(".")[1]) for name in tensors})
        latents = {
            place: tuple(_basis(tensors, f"layers.{place}.{name}") for name in ("keys", "values")) for place in places
        }
        held = {int(k): (float(a), float(b)) for k, (a, b) in json.loads(about.get("held", "{}")).items()}
    except (SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
        raise SpecError(f"{location}: its latents cannot be read ({error})") from None
    layers = len(loaded.spec.layers)
    if places and places[-1] >= layers:
        raise SpecError(f"{location}: latents of {places[-1] + 1} layers; {loaded.spec.title} has {layers}")
    return Learned(technique=about["technique"], latents=latents, held=held)  # type: ignore[arg-type]


def _basis(tensors: dict[str, Tensor], name: str) -> Basis:
    return Basis(tensors[f"{name}.directions"], tensors[f"{name}.mean"], tensors.get(f"{name}.rebuilding"))


def restored_from(folder: str, loaded: Loaded) -> Learned:
    """Return the latents that stand in a folder."""
    return restored(read_latents(folder), loaded, folder)


def header(content: bytes, location: str) -> dict[str, str]:
    """Return what a file of latents says of itself."""
    try:
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (ValueError, AttributeError):
        about = {}
    if about.get("format") != FORMAT:
        raise SpecError(f"{location}: is no file of latents; kvplan compress writes one")
    return dict(about)
