"""Where the time of a step goes, operator by operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.perf.operators import Operator
from kvplan.perf.step_time import ENGINE_ITSELF, bound, operator_time, overhead, reach, step_time
from kvplan.specs.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Step:
    """One pass of a server."""

    operators: Sequence[Operator]  #: what it is made of
    calibration: Calibration  #: what times them
    sequences: float  #: those it decodes
    prompts: bool  #: whether it reads prompts, alone or with the decoding


@dataclass(frozen=True, kw_only=True)
class StepPart:
    """An operator's part of a step, or the engine's own."""

    name: str  #: the operator's, or ENGINE_ITSELF
    seconds: float  #: its time [s]
    share: float  #: of the step's time
    limit: str  #: what takes most of it: memory, compute, network or overhead
    of_limit: float | None = None  #: share of its time that it spends at that limit
    operator: Operator | None = None  #: None for the engine's own


def parts(step: Step) -> list[StepPart]:
    """Return the parts of a step; their seconds sum to the step's, their shares to 1."""
    c, prompts = step.calibration, step.prompts
    whole = step_time(step.operators, c, step.sequences, prompts)
    rows = [
        StepPart(
            name=o.name,
            seconds=(time := operator_time(o, c, prompts)),
            share=time / whole,
            limit=bound(o, c, prompts),
            of_limit=reach(o, c, prompts),
            operator=o,
        )
        for o in step.operators
    ]
    rest = overhead(c, step.sequences)
    return [*rows, StepPart(name=ENGINE_ITSELF, seconds=rest, share=rest / whole, limit="overhead")]
