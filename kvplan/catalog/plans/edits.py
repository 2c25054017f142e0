"""A saved plan that was edited by hand: another count of replicas is honoured, what no longer agrees is refused.

A figure stands at several places of the document: where it is read by people (`recommended`), in what a server must be
told (`recommended.server`), and in the load that is promised (`recommended.promise`).
"""

from collections.abc import Mapping
from dataclasses import replace
from math import isclose
from typing import Any

from kvplan.errors import SpecError, shown
from kvplan.planning.launch import Needs
from kvplan.planning.promise import Promise
from kvplan.units import show_count

#: name in `recommended` -> its names in `server` and in `promise`, '' where it does not stand there
TWICE = {
    "engine": ("engine", "engine"), "gpu": ("gpu", "gpu"), "technique": ("technique", ""),
    "weights": ("weights", "weights"), "tp": ("tensor", "tensor"), "pp": ("pipeline", "pipeline"),
    "dp": ("data", "data"), "requests_in_flight": ("", "concurrency"), "prefix_hit": ("", "hit"),
    "percentile": ("", "percentile"), "ttft": ("", "ttft"), "tpot": ("", "tpot"),
}  # fmt: skip


def honoured(plan: Mapping[str, Any], needs: Needs, promise: Promise, place: str) -> tuple[Needs, Promise, str]:
    """Return what a plan hands over as it was edited, and what to say of that; raise SpecError.

    More or fewer replicas share the same load: each gets rate x replicas that served / replicas that serve.
    """
    for name, (told, promised) in TWICE.items():
        for part, field, value in (("server", told, needs), ("promise", promised, promise)):
            if field and name in plan:
                agree(plan[name], getattr(value, field), f"{place}: recommended.{name}", f"{part}.{field}")
    wanted, before = replicas(plan, needs, place), started(plan, needs)
    whole(plan, {wanted * needs.gpus, before * needs.gpus}, place)
    if wanted == before:
        return needs, promise, ""
    serving = max(wanted - before + promise.serving, 1)
    rate = None if promise.rate is None else promise.rate * promise.serving / serving
    said = (
        f"the file was edited to {show_count(wanted, 'replica')}, where the plan has {before}: they share its load; "
        "its times, cost and odds are not theirs"
    )
    return replace(needs, replicas=wanted), replace(promise, serving=serving, rate=rate), said


def agree(here: object, there: object, place: str, other: str) -> None:
    """Refuse a figure that says something else at another place."""
    numbers = isinstance(here, (int, float)) and isinstance(there, (int, float))
    if here != there and not (numbers and isclose(here, there, rel_tol=1e-9)):  # type: ignore[arg-type]
        raise SpecError(
            f"{place} is {shown(here)}, but recommended.{other} is {shown(there)}: the plan holds for one of them; set "
            "the other back, or ask kvplan recommend again"
        )


def started(plan: Mapping[str, Any], needs: Needs) -> int:
    """Return the replicas that were planned: what its launch says, which is not read besides."""
    launch = plan.get("launch")
    count = launch.get("replicas") if isinstance(launch, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else needs.replicas


def replicas(plan: Mapping[str, Any], needs: Needs, place: str) -> int:
    """Return the replicas that are wanted: where two places differ, the one that was edited."""
    before, here = started(plan, needs), plan.get("replicas", needs.replicas)
    if isinstance(here, bool) or not isinstance(here, int) or here < 1:
        raise SpecError(f"{place}: recommended.replicas: expected a whole number from 1, got {shown(here)}")
    edited = {count for count in (here, needs.replicas) if count != before}
    if len(edited) > 1:
        raise SpecError(
            f"{place}: recommended.replicas is {here}, but recommended.server.replicas is {needs.replicas}: write the "
            "same count in both"
        )
    return edited.pop() if edited else before


def whole(plan: Mapping[str, Any], right: set[int], place: str) -> None:
    """Refuse a count of GPUs that is not that of the replicas."""
    if "gpus" in plan and plan["gpus"] not in right:
        raise SpecError(
            f"{place}: recommended.gpus is {shown(plan['gpus'])}, but its replicas take {max(right)}: edit "
            "recommended.replicas in its place"
        )
