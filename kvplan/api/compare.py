"""Two plans side by side, or a saved plan and today's answer to the same question."""

from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from kvplan import catalog
from kvplan.api import values
from kvplan.errors import SpecError, WrongUse, shown
from kvplan.planning.compare import GATED, Comparison, Side, answered, saved
from kvplan.planning.compare import compare as compared

if TYPE_CHECKING:
    from kvplan.planning.recommend import Recommendation


#: costs grow by less than so many times
MOST_DEARER = 100.0


def compare(
    before: "str | Recommendation",
    after: "str | Recommendation | None" = None,
    *,
    on: str | None = None,
    fail_above: str | float | Iterable[str | float] | None = None,
) -> Comparison:
    """Return what changed between two plans: files that `kvplan recommend` saved, or what `recommend` returned.

    Without a second one, the question of the saved one is asked again with the prices of the day `on` (default: today).
    `fail_above` lets costs rise by a share: '5%' of a query and of a month alike, 'query=5%' or 'month=5%' of one; what
    is not kept is `breach` of the answer.
    Raises KvplanError for a file that is no plan, and for a question that cannot be asked again.

        >>> rented, owned = (kvplan.recommend("chat", "llama3.1-8b", gpus="h100", own=own) for own in (None, "default"))
        >>> comparison = kvplan.compare(rented, owned)
        >>> comparison.changed, comparison.question
        (True, ())
    """
    limits = {} if fail_above is None else gates_of(fail_above)
    values.day(on)
    if after is not None and on is not None:
        raise WrongUse("on: is for asking again; give one plan, or two plans without a day")
    if after is None:
        if not isinstance(before, str):
            raise SpecError("before: name the file of a saved plan to ask its question again, or give two plans")
        after = again(before, on)
    files = label(before, "before"), label(after, "after")
    names = labels(*files) if isinstance(before, str) or isinstance(after, str) else ("before", "after")
    return compared(side(before, names[0]), side(after, names[1]), limits)


def gates_of(given: str | float | Iterable[str | float], name: str = "fail_above") -> Mapping[str, float]:
    """Return by how much each cost may rise (query, month -> a share): '5%' of both, 'month=5%' of one, or several."""
    several = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else given
    limits: dict[str, float] = {}
    for one in several:
        figure, sign, share = one.partition("=") if isinstance(one, str) else ("", "", one)
        wanted = (values.one_of(figure.strip(), name, tuple(GATED)),) if sign else tuple(GATED)
        limits |= dict.fromkeys(wanted, values.share(share if sign else one, name, MOST_DEARER))
    return limits


def label(plan: "str | Recommendation", name: str) -> str:
    """Return what a plan is called: its file, or the day of its prices."""
    from kvplan.planning.recommend import Recommendation

    if not isinstance(plan, (str, Recommendation)):
        raise SpecError(f"{name}: expected the file of a saved plan, or what recommend returned, got {shown(plan)}")
    return plan if isinstance(plan, str) else f"on {plan.day}"


def side(plan: "str | Recommendation", name: str) -> Side:
    """Return a plan's figures."""
    return saved(catalog.saved_plan(plan), name) if isinstance(plan, str) else answered(plan, name)


def again(word: str, on: str | None) -> "Recommendation":
    """Return the answer to a saved plan's question with the prices of a day; whatever day it named is left out.

    So are its what-ifs and its simulation, which say nothing of the plan.
    """
    from kvplan.api.recommend import recommend

    question, location = catalog.saved_plan(word)["question"], f"{word}: question"
    if isinstance(question, list):
        raise SpecError(f"{location}: holds words of a command line, as older releases saved them; save the plan again")
    asked = {
        **checked(question["values"], signature(recommend).parameters, location),
        "on": on,
        "vary": (),
        "simulate": False,
    }
    try:
        return recommend(**asked)
    except WrongUse as wrong:  # it was saved, not typed
        raise SpecError(f"{location}: {wrong}") from None


def checked(given: Mapping[str, Any], known: Mapping[str, Parameter], location: str) -> Mapping[str, Any]:
    """Return the values of a saved call; raise SpecError where it names what is no parameter, or lacks one."""
    if odd := next((name for name in given if name not in known), None):
        raise SpecError(f"{location}: recommend has no parameter {shown(odd)}; save the plan again")
    needed = [name for name, parameter in known.items() if parameter.default is Parameter.empty]
    if lost := next((name for name in needed if name not in given), None):
        raise SpecError(f"{location}: {lost} is missing; save the plan again")
    return given


def labels(before: str, after: str) -> tuple[str, str]:
    """Return short names of two files, without their folders where that tells them apart."""
    short = (before.replace("\\", "/").rsplit("/", 1)[-1], after.replace("\\", "/").rsplit("/", 1)[-1])
    return short if short[0] != short[1] else (before, after)
