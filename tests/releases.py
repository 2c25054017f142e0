"""Engines as the tests know them: a release added to the catalogue is the default of commands and of no golden file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kvplan.catalog.servers import engines
from kvplan.specs.eras import as_numbers

#: the newest release of each engine that tests and golden files know; to move on, write another and --update-golden
NEWEST = {"llamacpp": "b6000", "sglang": "0.5.22", "trtllm": "1.0", "vllm": "0.33"}

_whole = engines._engine_file


def _known(word: str) -> engines._EngineFile:
    """Return an engine's file without the releases newer than the engine's NEWEST."""
    file = _whole(word)
    newest = as_numbers(NEWEST.get(file.location.removesuffix(".yaml"), file.newest))
    return replace(file, changes={r: part for r, part in file.changes.items() if as_numbers(r) <= newest})


def forget_newer_releases() -> None:
    """Let engines have no release newer than NEWEST in this process."""
    if engines._engine_file is not _known:
        engines._engine_file = _known
        engines.engine.cache_clear()


@contextmanager
def every_release() -> Iterator[None]:
    """Let engines have all releases of the catalogue for a while."""
    before, engines._engine_file = engines._engine_file, _whole
    engines.engine.cache_clear()
    try:
        yield
    finally:
        engines._engine_file = before
        engines.engine.cache_clear()
