"""Engines as the tests know them: a release added to the catalogue is the default of commands and of no golden file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kvplan.catalog import engines

#: the newest release of each engine that tests and golden files know; to move on, write another and --update-golden
NEWEST = {"llamacpp": "b6000", "sglang": "0.5.22", "trtllm": "1.0", "vllm": "0.33"}

_all = engines._sorted


def _known(releases: Mapping[str, object], location: str) -> list[str]:
    """Return the releases of a file but for those newer than the engine's NEWEST."""
    found = _all(releases, location)
    newest = NEWEST.get(location.removesuffix(".yaml"), found[-1])
    return [r for r in found if engines._number(r) <= engines._number(newest)]


def forget_newer_releases() -> None:
    """Let engines have no release newer than NEWEST in this process."""
    if engines._sorted is not _known:
        engines._sorted = _known
        engines.engine.cache_clear()


@contextmanager
def every_release() -> Iterator[None]:
    """Let engines have all releases of the catalogue for a while."""
    before, engines._sorted = engines._sorted, _all
    engines.engine.cache_clear()
    try:
        yield
    finally:
        engines._sorted = before
        engines.engine.cache_clear()
