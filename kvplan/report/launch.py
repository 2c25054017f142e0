"""The command that starts a plan, as a line to copy and as fields."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

from kvplan.planning.launch import FILE, Launch
from kvplan.planning.recommend import Recommendation
from kvplan.report.blocks import Code, Json, sentence

#: characters of a line of a command, its mark of continuation left out
WIDE = 74


def started(r: Recommendation) -> Code | None:
    """Return the command that starts each replica, its options file and what it leaves out; None without one."""
    if r.launch is None:
        return None
    each = "Start" if r.launch.replicas == 1 else f"Start each of the {r.launch.replicas} replicas"
    heading = f"{each} with {r.demand.engine.title} ({r.demand.engine.version})"
    return Code(heading, tuple(folded(r.launch.argv)), (*remarks(r.launch), *alone(r)))


def remarks(launch: Launch) -> Iterator[str]:
    """Yield the command's options file, and what must be given besides."""
    if launch.file:
        yield f"{FILE}: {'; '.join(flat(launch.file))}"
    yield from (sentence(line) for line in launch.missing)


def alone(r: Recommendation) -> Iterator[str]:
    """Yield why prefixes are not cached, where the command says so and the requests share nothing."""
    known = r.demand.engine.launch
    off = known is not None and known.no_prefixes and r.needs is not None and not r.needs.prefixes
    if off and not r.demand.workload.prefix_share:
        yield "Prefix caching is off, because the requests of this workload share no prefix."


def folded(argv: Sequence[str]) -> Iterator[str]:
    """Yield a command in lines that a shell takes as one, each fit for a narrow terminal.

    Options stand with their values, but before one that would not fit beside its option.
    """
    units: list[str] = []
    for word in map(quote, argv):
        if units and not word.startswith("-") and len(units[-1]) + len(word) + 3 <= WIDE:
            units[-1] += f" {word}"
        else:
            units.append(word)
    line = ""
    for unit in units:
        if line and len(line) + len(unit) + 1 > WIDE:
            yield f"{line} \\"
            line = f"  {unit}"
        else:
            line = f"{line} {unit}" if line else unit
    yield line


def flat(file: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the lines of an options file, names of groups before those inside."""
    for name, value in file.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}: {str(value).lower() if isinstance(value, bool) else value}"


def document(launch: Launch | None) -> Json | None:
    """Return the same as fields."""
    if launch is None:
        return None
    return {
        "argv": list(launch.argv), "file": dict(launch.file), "missing": list(launch.missing),
        "replicas": launch.replicas,
    }  # fmt: skip
