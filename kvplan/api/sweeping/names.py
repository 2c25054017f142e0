"""The values of a study, understood once before any point is asked: a wrong name is refused with its line."""

from collections.abc import Callable, Iterator
from typing import Any

from kvplan import catalog
from kvplan.api import values
from kvplan.api.sites import ENGINES
from kvplan.catalog.studies.marks import standing
from kvplan.errors import KvplanError, SpecError
from kvplan.planning.site import OBJECTIVES
from kvplan.specs.sweep import Choice, Study, Value

#: what every engine is, in a recommendation
ANY = "any"


def each(read: Callable[[str], Any]) -> Callable[[Any], None]:
    """Return what reads one name, or each of several."""

    def check(value: Any) -> None:
        for word in values.several(value, "value"):
            read(word)

    return check


#: parameter -> what refuses a value of it that cannot be
CHECKS: dict[str, Callable[[Any], Any]] = {
    "model": catalog.model,
    "gpu": catalog.gpu,
    "gpus": each(catalog.gpu),
    "workload": catalog.workload,
    "technique": lambda word: values.technique_names(word, ()),
    "techniques": lambda word: values.technique_names(word, ()),
    "weights": each(values.weight_format),
    "engine": lambda word: values.engine(word, "engine", (*ENGINES, ANY)),
    "prices": each(lambda word: catalog.price_list((word,))),
    "own": catalog.ownership,
    "objective": lambda word: values.one_of(word, "objective", OBJECTIVES),
    "on": values.day,
}


def choices(study: Study) -> Iterator[tuple[str, Choice]]:
    """Yield every (parameter, value) that stands in a study."""
    yield from study.fixed.items()
    for case in study.cases:
        yield from case.items()
    for axis in study.axes:
        for choice in axis.choices:
            yield axis.name, choice


def check(study: Study) -> None:
    """Refuse a study with a value that cannot be, saying its line and parameter."""
    for parameter, choice in choices(study):
        try:
            CHECKS.get(parameter, str)(choice.value)
        except KvplanError as refusal:
            message = str(refusal)
            named = message if message.startswith(f"{parameter}:") else f"{parameter}: {message}"
            raise SpecError(f"{study.file}: line {choice.line}: {named}") from None


def marks(study: Study) -> dict[tuple[str, Value], str]:
    """Return the digest of what each named value stands for."""
    labels: dict[tuple[str, Value], str] = {}
    for parameter, choice in choices(study):
        if isinstance(choice.value, (str, tuple)) and (parameter, choice.value) not in labels:
            words = (choice.value,) if isinstance(choice.value, str) else choice.value
            if mark := standing(parameter, words):
                labels[parameter, choice.value] = mark
    return labels
