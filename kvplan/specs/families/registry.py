"""The table of architectures, filled by `@family(...)`."""

from collections.abc import Callable

from kvplan.specs.config import Config
from kvplan.specs.families.parts import Body

Reader = Callable[[Config], Body]

FAMILIES: dict[str, Reader] = {}


def family(*model_types: str) -> Callable[[Reader], Reader]:
    """Register a reader for these values of config.json's model_type."""

    def register(reader: Reader) -> Reader:
        for model_type in model_types:
            FAMILIES[model_type] = reader
        return reader

    return register
