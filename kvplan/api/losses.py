"""What techniques lose of a workload's tasks: the published table, and scores of the user's own."""

from collections.abc import Iterable, Sequence

from kvplan import catalog
from kvplan.quality.loss import quality
from kvplan.quality.results import Quality
from kvplan.specs.model import ModelSpec
from kvplan.specs.quality import QualityTable
from kvplan.specs.workload import Workload


def loss_of(
    technique: str, model: ModelSpec, workload: Workload, context: int, own: Sequence[QualityTable] = ()
) -> Quality:
    """Return what one technique loses of a workload's tasks in sequences of `context` tokens; `own` scores go first."""
    return quality(
        technique,
        model,
        workload.task,
        context,
        catalog.quality_table(),
        *own,
        seen=workload.question_seen,
        answer=int(workload.output.mean),
    )


def losses_of(
    names: Iterable[str], model: ModelSpec, workload: Workload, context: int, own: Sequence[QualityTable] = ()
) -> dict[str, Quality]:
    """Return technique -> what it loses, as `loss_of` has it; each technique once."""
    return {name: loss_of(name, model, workload, context, own) for name in dict.fromkeys(names)}
