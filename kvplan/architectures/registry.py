"""The tables of architectures, filled by `@family(...)` and `@tower(...)`; a config imports only what reads it."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from kvplan.architectures.config import Config
from kvplan.architectures.parts import Body

Reader = Callable[[Config], Body]
Kind = TypeVar("Kind")

#: modules of this folder that are not imported yet, those that read most published files first
WAITING = ["dense", "moe", "mla", "hybrid", "multimodal", "encoder_decoder"]


class Registry(Mapping[str, Kind]):
    """What is registered by model_type; modules are imported in turn until one registers the type looked up."""

    def __init__(self) -> None:
        self.known: dict[str, Kind] = {}

    def __getitem__(self, model_type: str) -> Kind:
        while model_type not in self.known and WAITING:
            import_module(f"kvplan.architectures.{WAITING.pop(0)}")
        return self.known[model_type]

    def __iter__(self) -> Iterator[str]:
        while WAITING:
            import_module(f"kvplan.architectures.{WAITING.pop(0)}")
        return iter(self.known)

    def __len__(self) -> int:
        return sum(1 for _ in self)


#: model_type -> the reader of its config
FAMILIES: Registry[Reader] = Registry()
#: outer model_type -> what stands beside its language model (a multimodal.Tower)
TOWERS: Registry[Any] = Registry()


def family(*model_types: str) -> Callable[[Reader], Reader]:
    """Register a reader for these values of config.json's model_type."""

    def register(reader: Reader) -> Reader:
        FAMILIES.known.update(dict.fromkeys(model_types, reader))
        return reader

    return register
