"""Engines: the memory rules of each by release, by name or YAML file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kvplan.catalog.fields import mapping, shelf_document
from kvplan.catalog.servers.engine_rules import check_rules, stated_rules
from kvplan.catalog.shelves import names
from kvplan.errors import SpecError, UnknownName, shown
from kvplan.specs.eras import RELEASE, as_numbers, numbers
from kvplan.specs.hardware import Engine
from kvplan.specs.source import Source


@dataclass(frozen=True)
class _EngineFile:
    """What an engine's file says of all its releases, and what changed with each."""

    name: str  #: as options spell it
    location: str  #: as messages call the file
    base: Mapping[str, Any]  #: what holds of all releases unless one changes it
    changes: Mapping[str, Any]  #: release -> what changed with it, None for nothing; the oldest first

    @property
    def releases(self) -> tuple[str, ...]:
        """Releases at which the rules change, the oldest first."""
        return tuple(self.changes)

    @property
    def newest(self) -> str:
        """The newest of them."""
        return self.releases[-1]

    @property
    def told(self) -> tuple[str, ...]:
        """Releases whose options are known: all from the first on that states some."""
        first = next((i for i, r in enumerate(self.releases) if "launch" in (self.changes[r] or {})), len(self.changes))
        return self.releases if "launch" in self.base else self.releases[first:]

    def until(self, release: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return where each part that holds of a release stands, and the part; later ones change earlier ones."""
        older = [r for r in self.releases if as_numbers(r) <= as_numbers(release)]
        parts = [(f"{self.location}: {r}", mapping(self.changes[r] or {}, f"{self.location}: {r}")) for r in older]
        return [(self.location, self.base), *parts]


def _engine_file(word: str) -> _EngineFile:
    """Return an engine's file by the engine's name or the file's path; raise SpecError, UnknownName."""
    raw, name, location = shelf_document("engines", word, "engine")
    stated = mapping(raw.get("releases", {}), f"{location}: releases", "{0.19: {utilization: 0.92}}")
    changes = {str(release): part for release, part in stated.items()}
    if not changes or not all(re.fullmatch(RELEASE, r, re.ASCII) for r in changes):
        got = shown(", ".join(changes)) if changes else "none"
        raise SpecError(f"{location}: releases: expected entries such as '0.19', got {got}")
    return _EngineFile(name, location, raw, {release: changes[release] for release in sorted(changes, key=as_numbers)})


@cache
def engine(word: str = "vllm") -> Engine:
    """Return an engine's memory rules by name or YAML file, the newest known or those of a release, as in vllm@0.19.

    Raises SpecError for a release older than the oldest known or no release, and UnknownName.
    """
    name, at, wanted = word.rpartition("@")
    name, wanted = (name, wanted) if at and not wanted.endswith((".yaml", ".yml")) else (word, "")
    file = _engine_file(name)
    release = _in_force(wanted, file, name) if wanted or word.endswith("@") else file.newest
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for place, part in file.until(release):
        stated, said = stated_rules({"source": file.base.get("source"), **part}, place, values.get("launch"))
        values |= stated
        sources |= said
    check_rules(values, file.location)
    version = _version(file, release, wanted)
    return Engine(name=file.name, release=release, version=version, named=wanted, sources=sources, **values)


def _version(file: _EngineFile, release: str, wanted: str) -> str:
    """Return the releases that the rules of one hold for, in words."""
    after = next((r for r in file.releases if as_numbers(r) > as_numbers(release)), None)
    if after is not None:
        return f"{release} to before {after}"
    known = f"{release} and later"
    return f"{wanted}, by the newest rules known: those of {known}" if _newer(wanted, release) else known


def releases(name: str) -> tuple[str, ...]:
    """Return the releases of an engine on the shelf at which its rules change, the oldest first."""
    return _engine_file(name).releases


def described_releases(word: str) -> tuple[str, ...]:
    """Return an engine's releases whose rules and options are known, as engine@release, oldest first.

    None of a word that names a release, or is a file.
    """
    return tuple(f"{word}@{r}" for r in _engine_file(word).told) if word in names("engines") else ()


@cache
def fitted_engine() -> Engine:
    """Return the memory rules that the shipped profile of servers was fitted under."""
    return engine("vllm@0.11")


@cache
def stated_engine(name: str, version: str) -> Engine | None:
    """Return the rules of an engine and release as measured rows name them, None for an engine not described.

    Releases before the oldest described have its rules; where none is stated, they are those that servers were fitted
    under, or the newest.
    """
    if name not in names("engines"):
        return None
    usual = fitted_engine()
    newest_or_fitted = usual if name == usual.name else engine(name)
    number = ".".join(map(str, numbers(version)))
    if not number:
        return newest_or_fitted
    try:
        return engine(f"{name}@{number}")
    except UnknownName:  # not a release: more digits than one has
        return newest_or_fitted
    except SpecError:
        return engine(f"{name}@{releases(name)[0]}")


def described(word: str) -> Engine:
    """Return an engine as `engine` does; raise SpecError also for a release whose options are not known.

    Those are the releases newer than every one described, and the older ones of which only memory rules are.
    """
    name, _, wanted = word.partition("@")
    file = _engine_file(name)
    first = file.told[0] if file.told else ""
    if _newer(wanted, file.newest):
        raise SpecError(
            f"engine {name}: release {shown(wanted)} is newer than those whose options kvplan knows, "
            f"{', '.join(file.told or file.releases)}; write {name}@{file.newest}"
        )
    if first and re.fullmatch(RELEASE, wanted, re.ASCII) and as_numbers(wanted) < as_numbers(first):
        raise SpecError(
            f"engine {name}@{wanted}: kvplan knows the options of releases from {first} on; write {name}@{first}"
        )
    return engine(word)


def _newer(wanted: str, newest: str) -> bool:
    """Return whether a release is newer than the newest described; a later patch of it is not."""
    return as_numbers(wanted)[:2] > as_numbers(newest)[:2]


def _in_force(wanted: str, file: _EngineFile, name: str) -> str:
    """Return the release whose rules hold for the one wanted; raise UnknownName, SpecError."""
    if not re.fullmatch(rf"{RELEASE}(\.?[^\d.].*)?", wanted, re.ASCII):
        raise UnknownName("release", wanted, file.releases, f"write {name}@{file.newest}", f"engine {name}")
    older = [r for r in file.releases if as_numbers(r) <= as_numbers(wanted)]
    if not older:
        oldest = file.releases[0]
        raise SpecError(
            f"engine {name}@{wanted}: kvplan knows the memory rules of releases from {oldest} on; write {name}@{oldest}"
        )
    return older[-1]
