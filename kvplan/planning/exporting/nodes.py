"""Replicas over several servers: what an engine can, and how many GPUs each gives."""

from kvplan.errors import Incompatible
from kvplan.planning.exporting.values import ServerPlan
from kvplan.units import show_count


def across(s: ServerPlan) -> int:
    """Return the GPUs of each node of a replica that spans several; raise Incompatible where that has no command."""
    n = s.needs
    if n.gpus % n.nodes:
        raise Incompatible(
            f"a replica of {n.gpus} GPUs does not divide over {n.nodes} servers of {n.gpus_per_node}; "
            f"write gpus_per_node={n.gpus // n.nodes}"
        )
    if not s.known.nodes:
        raise Incompatible(
            f"kvplan knows no plain command of {s.title} {s.release} for a replica over {n.nodes} servers; plan "
            "replicas that fit one, or export for another engine"
        )
    if n.data > 1 and s.known.follower:
        raise Incompatible(
            f"kvplan knows no plain command of {s.title} for {n.data} attention ranks over {n.nodes} servers; export "
            "for sglang"
        )
    return n.gpus // n.nodes


def within(s: ServerPlan, form: str, instead: str) -> None:
    """Refuse a replica that spans servers, in a form that cannot."""
    if s.needs.nodes > 1:
        raise Incompatible(
            f"a replica takes {show_count(s.needs.gpus, 'GPU')} on {s.needs.nodes} servers, which {form} cannot "
            f"express; use as_form={instead}"
        )
