"""What-if: the same question with other values of some of its parameters."""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, TypeVar

from kvplan.api.values import several, tokens
from kvplan.errors import KvplanError, SpecError, WrongUse, meant, shown

T = TypeVar("T")

#: questions that one table asks at most
MOST = 64
#: parameters under the names that options give them
NAMES = {"gpu": "gpus", "technique": "techniques", "queries": "queries_per_day"}
#: what says yes or no
FLAGS = {"true": True, "yes": True, "false": False, "no": False}
#: parameters that say one thing: one that is varied stands for the others
VOLUMES = ("queries_per_day", "rate", "users")
#: parameters that cannot be varied
FIXED = ("vary", "workload", "own", "progress", "simulate")
#: parameters that are whole numbers of tokens: a change by a share is rounded
TOKENS = ("isl", "osl")
#: parameters whose numbers are no amounts, so that a share of them means nothing
NO_AMOUNTS = ("on", "model", "engine", "speculative", "term", "profile", "objective")

#: a change by a share, and a quantity with what stands before and behind its number
CHANGE = re.compile(r"([+-]\d{1,6}(?:\.\d{1,6})?)\s*%", re.ASCII)
QUANTITY = re.compile(r"((?:[$€£]|[A-Z]{3})?\s*)(\d{1,3}(?:,\d{3})+|\d{1,15}(?:\.\d{1,15})?)([^\d,.].*)?", re.ASCII)

Axes = Mapping[str, Iterable[Any]] | str | Iterable[str]


def axes_of(vary: Axes, call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the values to ask with, parameter -> value; none where nothing is varied."""
    axes: dict[str, list[Any]] = {}
    for word, options in pairs(vary):
        name = named(word, call)
        if name in axes:
            raise SpecError(f"vary: {name} stands twice; write its values once, as in load=1,3,10")
        axes[name] = options
    if not axes:
        return []
    for name, options in axes.items():
        if not options or any(value is None for value in options):
            raise SpecError(f"vary: {name}: expected values, as in {name}=1,2")
    axes = {name: [absolute(name, value, call[name]) for value in options] for name, options in axes.items()}
    combinations = [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]
    if len(combinations) > MOST:
        raise SpecError(f"vary: {len(combinations):,} combinations are more than {MOST}; give fewer values")
    return combinations


def pairs(vary: Axes) -> list[tuple[str, list[Any]]]:
    """Return (name, values) of a mapping, or of texts such as 'load=1,3,10'."""
    if isinstance(vary, Mapping):
        return [(str(name), listed(axes)) for name, axes in vary.items()]
    axes = []
    for text in several(vary, "vary"):
        name, sign, rest = text.partition("=")
        if not sign or not rest.strip():
            raise SpecError(f"vary: write name=a,b, as in load=1,3,10, got {shown(text)}")
        axes.append((name, [number(value.strip()) for value in rest.split(",") if value.strip()]))
    return axes


def absolute(name: str, value: Any, given: Any) -> Any:
    """Return a value as it is, or a change by a share, as in -20%, of the one that was given: 2 of 2.5/h is 2/h."""
    share = CHANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if share is None:
        return value
    parts, factor = amount_in(name, given), 1 + float(share[1]) / 100
    if parts is None or not float(parts[2].replace(",", "")) or factor < 0:
        raise SpecError(f"vary: {name}: {shown(value)} {unchanged(name, given, parts)}")
    if name in TOKENS:
        return max(round(tokens(given, name) * factor), 1)
    return number(f"{parts[1]}{float(parts[2].replace(',', '')) * factor:.10g}{parts[3] or ''}")


def amount_in(name: str, given: Any) -> re.Match[str] | None:
    """Return what stands before an amount, the amount and what stands behind it; None for what is none."""
    if isinstance(given, bool) or name in NO_AMOUNTS:
        return None
    return QUANTITY.fullmatch(str(given).strip())


def unchanged(name: str, given: Any, parts: re.Match[str] | None) -> str:
    """Return why a value cannot be changed by a share: it is not given, no amount, 0, or falls by more than it is."""
    if given is None or given == () or given == "":
        return f"is a change of a {name} that is not given; give it too, as in price=2.49/h, or write values"
    if parts is None:
        return f"changes {name} by a share, and it is no amount; write values"
    if not float(parts[2].replace(",", "")):
        return f"changes {name} by a share, and it is {shown(given)}; write values"
    return "is below nothing; write values"


def number(word: str) -> Any:
    """Return a plain number as such, any other text as it is."""
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", word):
        return word
    return float(word) if "." in word else int(word)


def listed(options: Any) -> list[Any]:
    """Return the values of one parameter."""
    if isinstance(options, str) or not isinstance(options, Iterable):
        return [options]
    return list(options)


def named(word: str, call: Mapping[str, Any]) -> str:
    """Return the parameter that a name stands for."""
    plain = word.strip().removeprefix("--").replace("-", "_")
    name = NAMES.get(plain, plain)
    if name not in call or name in FIXED:
        known = sorted(set(call) - set(FIXED))
        instead = meant(plain, known) or f"; write one of {', '.join(known)}"
        raise SpecError(f"vary: {shown(word)} cannot be varied{instead}")
    return name


def with_changes(call: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question with some parameters changed, to be asked once."""
    typed = {name: as_typed(name, value) for name, value in changed.items()}
    volume = dict.fromkeys(VOLUMES) if any(name in typed for name in VOLUMES) else {}
    return {**call, **volume, **typed, "vary": ()}


def each(call: Mapping[str, Any], axes: Iterable[Mapping[str, Any]], ask: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what is answered to a question under each of several changes; a refusal says which of them it is about."""
    answers = []
    for changed in axes:
        try:
            answers.append(ask(with_changes(call, changed)))
        except KvplanError as refusal:
            place = "vary=" if str(refusal).partition(":")[0] in changed else "vary: "
            raise (WrongUse if isinstance(refusal, WrongUse) else SpecError)(f"{place}{refusal}") from None
    return answers


def as_typed(name: str, value: Any) -> Any:
    """Return a value as the parameter takes it: yes and no are read, names and files are texts."""
    if isinstance(value, str) and name in ("any_technique", "prefix_cache", "allow_long_context"):
        return FLAGS.get(value.lower(), value)
    return value
