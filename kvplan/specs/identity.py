"""Whose a measured row or a plan is, at every level at which servers differ."""

from dataclasses import dataclass
from functools import lru_cache

from kvplan.specs.eras import era_of, release_of
from kvplan.specs.hardware import Gpu
from kvplan.specs.model import ModelSpec


def family(model: ModelSpec) -> str:
    """Return what tells architectures apart: releases that differ in weights only are one model to a server."""
    return f"{model.model_type} {model.parameters / 1e9:.1f}B"


def shape(model: ModelSpec) -> str:
    """Return what a model is to a server whatever its name, class and vocabulary: its layers, width and their weights.

    A fine-tune has the shape of the model it was made from.
    """
    return f"{len(model.layers)} x {model.hidden}, {sum(layer.parameters for layer in model.layers)}"


@lru_cache(maxsize=512)
def mixture(model: ModelSpec) -> bool:
    """Return whether a model routes tokens to experts, of which each reads a part."""
    return any(weight.used < weight.copies for layer in model.layers for weight in layer.weights)


#: weights up to so many bits, scales included, are of 8 and of 4 bits
EIGHT, FOUR = 8.6, 5.0


def stored_bits(model: ModelSpec) -> float:
    """Return the width of a checkpoint's quantised weights, 16 where it has none. [bit]"""
    return (model.quantization.bits if model.quantization else None) or 16.0


def number_format(gpu: Gpu, bits: float) -> str:
    """Return what kernels are written for: weights of 16, 8 or 4 bits, which a GPU multiplies in or unpacks."""
    if bits > EIGHT:
        return "16 bits"
    width, native = ("8 bits", gpu.fp8) if bits > FOUR else ("4 bits", gpu.fp4)
    return width if native else f"{width}, unpacked"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose row or plan it is; '' where that is not known, and then nothing is taken from that level."""

    gpu: str  #: the GPU's name in the catalogue
    engine: str  #: the engine's name in the catalogue
    version: str = ""  #: its release, as stated
    model: str = ""  #: architecture and size, see `family`
    sweep: str = ""  #: benchmark run a row is from
    source: str = ""  #: collection a row is from, '' for rows of a known script
    architecture: str = ""  #: of the GPU: hopper, blackwell, ...
    vendor: str = ""  #: of the GPU
    number_format: str = ""  #: of its weights, see `number_format`
    mixture: bool = False  #: whether the model routes tokens to experts

    @property
    def kernels(self) -> tuple[str, ...]:
        """What its measured kernels are called: all of its architecture's, and those for its number format."""
        return (self.architecture, f"{self.architecture} {self.number_format}")

    def members(self) -> dict[str, str]:
        """Return who this is at every level."""
        release = f"{self.engine} {release_of(self.version)}" if self.version else ""
        return {
            "vendors": self.vendor,
            "architectures": self.architecture,
            "gpus": self.gpu,
            "mixtures": self.gpu if self.mixture else "",
            "engines": self.engine,
            "platforms": f"{self.architecture} {self.engine}" if self.architecture else "",
            "servers": f"{self.gpu} {self.engine}",
            "eras": era_of(self.engine, self.version),
            "releases": release,
            "builds": f"{self.engine} {self.number_format}" if self.number_format else "",
            "own": f"{self.gpu} {self.engine} {self.model}" if self.model else "",
            "models": self.model,
            "ports": f"{self.engine} {self.model}" if self.model else "",
            "editions": f"{release} {self.model}" if release and self.model else "",
            "origins": "others" if self.source else "",
            "sources": self.source,
            "hosts": f"{self.source} {self.gpu}" if self.source else "",
            "sites": f"{self.source} {self.gpu} {self.engine} {self.model}" if self.source else "",
            "sweeps": f"{self.sweep} {self.gpu} {self.engine} {self.version} {self.model}" if self.sweep else "",
        }
