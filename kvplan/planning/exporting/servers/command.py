"""The plain command, one a node where a replica spans several."""

from kvplan.planning.exporting.nodes import across
from kvplan.planning.exporting.values import Exported, ServerPlan
from kvplan.planning.launch import FILE

#: what stands for the address of the first node
LEADER = "LEADER"


def export(s: ServerPlan) -> Exported:
    """Return the command of a replica; on several nodes one each, the first node's first."""
    if s.needs.nodes == 1:
        launches = [s.launch()]
    else:
        across(s)
        count = s.needs.nodes
        launches = [s.launch(nodes=count, rank=rank, leader=LEADER, follows=rank > 0) for rank in range(count)]
    needed = (f"write the first node's address in place of {LEADER}",) if len(launches) > 1 else ()
    first = launches[0]
    return Exported(
        target=s.engine, release=s.release, form="command", commands=tuple(each.argv for each in launches),
        files={FILE: first.file} if first.file else {}, missing=(*first.missing, *needed), notes=s.notes,
    )  # fmt: skip
