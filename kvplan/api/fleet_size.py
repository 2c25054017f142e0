"""How many replicas a simulation has, as callers write it: a number, '1:2', '1:8@16+3min', and which of them fail."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.api import values
from kvplan.errors import SpecError, WrongUse, shown
from kvplan.planning.simulating.scaling import Autoscale, Failure
from kvplan.planning.simulating.simulate import MOST_REPLICAS
from kvplan.units import show_time

#: from the decision to start a replica to its first request, where nobody says [s]
STARTUP = 180.0


@dataclass(frozen=True, kw_only=True)
class FleetSize:
    """How many replicas serve: a number, prefill and decode apart, or as many as the load asks for at the time."""

    replicas: int | None  #: replicas that serve whole requests, None where nobody says
    split: tuple[int, int] | None  #: replicas of prefill and of decode
    scaled: Autoscale | None  #: replicas that come and go
    failures: tuple[Failure, ...]  #: replicas that fail, and when [s after the first counted request]


def fleet_size(
    replicas: int | None,
    find: bool,
    disaggregated: tuple[int, int] | str | None,
    autoscale: str | None,
    fail: str | Iterable[str],
) -> FleetSize:
    """Return how many replicas serve; refuse ways to say so that exclude each other."""
    split = values.given(values.halves, disaggregated, "disaggregated")
    scaled = values.given(read_autoscale, autoscale)
    many = values.given(values.count, replicas, "replicas", 1, MOST_REPLICAS)
    check_one_size(find, many, split, scaled)
    check_failures_allowed(fail, find, split, scaled)
    return FleetSize(replicas=many, split=split, scaled=scaled, failures=read_failures(fail, many or 1))


def check_one_size(find: bool, replicas: int | None, split: tuple[int, int] | None, scaled: Autoscale | None) -> None:
    """Refuse ways to say how many replicas there are that exclude each other."""
    given = {"replicas": replicas, "find_replicas": find or None, "disaggregated": split, "autoscale": scaled}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise WrongUse(f"{', '.join(names)}: each says how many replicas there are; give one of them")


def check_failures_allowed(
    fail: str | Iterable[str], find: bool, split: tuple[int, int] | None, scaled: Autoscale | None
) -> None:
    """Refuse failures where it is not said how many replicas there are that could stand in for each other."""
    given = {"find_replicas": find or None, "disaggregated": split, "autoscale": scaled}
    if fail and (name := next((name for name, value in given.items() if value is not None), "")):
        raise WrongUse(
            f"fail, {name}: a failure names one of a fixed number of replicas that serve whole requests; "
            "give replicas=2 or more instead"
        )


def read_autoscale(word: object) -> Autoscale:
    """Return replicas that come and go, of '1:8@16+3min': 1 to 8, 16 requests in flight each, started in 3 minutes."""
    span, _, rest = values.word(word, "autoscale").partition("@")
    target, _, startup = rest.partition("+")
    if not target:
        raise SpecError(f"autoscale: write fewest:most@requests+start-up, as in 1:8@16+3min, got {shown(word)}")
    least, most = values.halves(span, "autoscale", "fewest:most")
    if least > most:
        raise SpecError(f"autoscale: write the fewest replicas first, as in {most}:{least}@{rest}")
    return Autoscale(
        least=least, most=most, target=values.number(target, "autoscale", 0.01, values.MOST_REQUESTS),
        startup=values.seconds(startup, "autoscale") if startup else STARTUP,
    )  # fmt: skip


def read_failures(words: str | Iterable[str], replicas: int) -> tuple[Failure, ...]:
    """Return the failures that were asked for, as in '0@10min+5min'."""
    failures = []
    for word in values.several(words, "fail"):
        number, _, times = word.partition("@")
        at, plus, lasts = times.partition("+")
        if not number.strip().isdecimal() or not plus:
            raise SpecError(f"fail: write replica@time+duration, as in 0@10min+5min, got {shown(word)}")
        if replicas < 2:
            raise SpecError(
                "fail: with one replica nobody could take the requests of the one that fails; write replicas=2 or more"
            )
        if int(number) >= replicas:
            raise SpecError(
                f"fail: there is no replica {shown(number)}; the {replicas} have the numbers 0 to {replicas - 1}"
            )
        failures.append(Failure(replica=int(number), at=values.moment(at, "fail"), lasts=values.seconds(lasts, "fail")))
    for one in failures:
        down = {other.replica for other in failures if other.at <= one.at < other.at + other.lasts}
        if len(down) == replicas:
            raise SpecError(
                f"fail: all {replicas} replicas are down {show_time(one.at)} after the start; leave one to serve"
            )
    return tuple(failures)
