"""The tables of architectures, filled by `@family(...)` and `@tower(...)`; a config imports only what reads it."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import takewhile
from pkgutil import iter_modules
from typing import Any, TypeVar

from kvplan.architectures.config import Config
from kvplan.architectures.parts import Body

Reader = Callable[[Config], Body]
Kind = TypeVar("Kind")

PLACE = "kvplan.architectures.families"
#: families whose readers read many others too: looked in first where no name begins as the type does
COMMON = ["llama", "deepseek", "gpt", "bart"]


class Registry(Mapping[str, Kind]):
    """What is registered by model_type; families are imported in turn until one registers the type looked up."""

    def __init__(self) -> None:
        self.known: dict[str, Kind] = {}

    def __getitem__(self, model_type: str) -> Kind:
        load(model_type)
        return self.known[model_type]

    def __iter__(self) -> Iterator[str]:
        load(None)
        return iter(self.known)

    def __len__(self) -> int:
        return sum(1 for _ in self)


#: model_type -> the reader of its config
FAMILIES: Registry[Reader] = Registry()
#: outer model_type -> what stands beside its language model (a towers.Tower); no type is in both tables
TOWERS: Registry[Any] = Registry()


@cache
def waiting() -> list[str]:
    """Return the names of the families' modules that are not imported yet; `load` takes out what it imports."""
    names = [module.name for module in iter_modules(import_module(PLACE).__path__)]
    return [*COMMON, *(name for name in names if name not in COMMON)]


def load(model_type: str | None) -> None:
    """Import families until one registers `model_type` (None: all), those first whose name begins as the type does."""
    left = waiting()
    for name in sorted(left, key=lambda name: -alike(name, model_type or "")):
        if model_type in FAMILIES.known or model_type in TOWERS.known:
            return
        left.remove(name)
        import_module(f"{PLACE}.{name}")


def alike(name: str, model_type: str) -> int:
    """Return how many letters two names begin with alike, 0 for a single one."""
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(name, model_type, strict=False)))
    return count if count > 1 else 0


def family(*model_types: str) -> Callable[[Reader], Reader]:
    """Register a reader for these values of config.json's model_type."""

    def register(reader: Reader) -> Reader:
        FAMILIES.known.update(dict.fromkeys(model_types, reader))
        return reader

    return register
