"""What a saved plan hands over: what a server must be told, and the load it promises; each figure read with suspicion.

Both become words of a command line, so that texts are names alone: printable, of a bounded length, and no options.
"""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from kvplan.catalog.plans.edits import honoured
from kvplan.catalog.plans.saved import MOST, saved_plan
from kvplan.errors import SpecError, shown
from kvplan.planning.launch import Needs
from kvplan.planning.promise import Promise

#: figures that are a share, of 1
SHARES = ("share", "hit", "percentile")
#: names that must be there
NAMED = ("model", "gpu", "engine", "release", "technique")
#: figures that must be above 0: what divides, and lengths of requests
ABOVE = ("burstiness", "rate", "sharing", "mean", "high", "percentile", "share")
#: letters of the longest name
LONGEST = 300
AGAIN = "save the plan again"
#: figures that count something there must be one of
COUNTS = (
    "tensor", "pipeline", "data", "expert", "tokens", "sequences", "chunk", "replicas", "gpus_per_node", "serving",
    "concurrency",
)  # fmt: skip


def handed_over(word: str) -> tuple[Needs, Promise, str]:
    """Return what a saved plan asks of a server, the load it promises, and what was edited by hand, '' where nothing.

    Raises SpecError where it has neither, and where its figures contradict each other.
    """
    document = saved_plan(word)
    place = word.replace("\\", "/").rsplit("/", 1)[-1]
    plan = document.get("recommended")
    if not plan:
        raise SpecError(f"{place}: holds no plan, only why there is none; ask again with other limits")
    missing = next((name for name in ("server", "promise") if not isinstance(plan.get(name), dict)), None)
    if missing:
        raise SpecError(f"{place}: recommended.{missing}: is missing, as older releases saved plans; {AGAIN}")
    needs = read(Needs, plan["server"], f"{place}: server")
    return honoured(plan, needs, read(Promise, plan["promise"], f"{place}: promise"), place)


def read(kind: Any, raw: object, place: str) -> Any:
    """Return a frozen value of a JSON object; raise SpecError that names the field that is amiss."""
    if not isinstance(raw, dict):
        raise SpecError(f"{place}: expected an object, got {shown(raw)}; {AGAIN}")
    hints, known = get_type_hints(kind), {f.name: f.default for f in fields(kind)}
    if lost := next((name for name in known if name not in raw and known[name] is MISSING), None):
        raise SpecError(f"{place}.{lost}: is missing; {AGAIN}")
    return kind(**{name: figure(hints[name], raw[name], f"{place}.{name}", name) for name in known if name in raw})


def figure(kind: Any, raw: object, place: str, name: str) -> Any:
    """Return a field's value as its type has it; raise SpecError."""
    if is_dataclass(kind):
        return read(kind, raw, place)
    if raw is None and type(None) in get_args(kind):
        return None
    kinds = {t for t in get_args(kind) if t is not type(None)} or {kind}
    if name == "groups":
        return groups(raw, place)
    if kinds == {str}:
        return named(raw, place) if name in NAMED else text(raw, place)
    if kinds == {bool}:
        if not isinstance(raw, bool):
            raise SpecError(f"{place}: expected true or false, got {shown(raw)}; {AGAIN}")
        return raw
    value = amount(raw, place, name)
    if kinds == {int} and value != int(value):
        raise SpecError(f"{place}: expected a whole number, got {shown(raw)}; {AGAIN}")
    return int(value) if kinds == {int} else value


def named(raw: object, place: str) -> str:
    """Return a name that must be there."""
    word = text(raw, place)
    if not word.strip():
        raise SpecError(f"{place}: expected a name, got {shown(raw)}; {AGAIN}")
    return word


def amount(raw: object, place: str, name: str) -> float:
    """Return a figure by its name: from 1 where it counts something, up to 1 where it is a share."""
    value = number(raw, place, 1.0 if name in COUNTS else 0.0, 1.0 if name in SHARES else MOST)
    if name in ABOVE and not value:
        raise SpecError(f"{place}: expected a number above 0, got {shown(raw)}; {AGAIN}")
    return value


def text(raw: object, place: str) -> str:
    """Return a name that can stand in a command: no option, nothing unprintable."""
    if not isinstance(raw, str) or len(raw) > LONGEST or not raw.isprintable() or raw.startswith("-"):
        raise SpecError(f"{place}: expected a name, got {shown(raw)}; {AGAIN}")
    return raw


def number(raw: object, place: str, least: float, most: float = MOST) -> float:
    """Return a finite number from `least` to `most`."""
    counts = isinstance(raw, (int, float)) and not isinstance(raw, bool)
    if not counts or not least <= raw <= most or raw == MOST:  # type: ignore[operator]
        upto = f" to {most:g}" if most < MOST else ""
        raise SpecError(f"{place}: expected a number from {least:g}{upto}, got {shown(raw)}; {AGAIN}")
    return float(raw)  # type: ignore[arg-type]


def groups(raw: object, place: str) -> tuple[tuple[float, float], ...]:
    """Return (mean, deviation) pairs."""
    pairs: list[Any] = raw if isinstance(raw, list) and raw else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise SpecError(f"{place}: expected pairs of mean and deviation, got {shown(raw)}; {AGAIN}")
    return tuple((number(mean, place, 0.0), number(spread, place, 0.0)) for mean, spread in pairs)
