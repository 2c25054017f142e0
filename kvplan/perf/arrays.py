"""Many passes side by side: operators of arrays, which the formulas of `perf` take as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvplan.perf.operators import Operator

Array = Any
#: the amounts of an operator
FIELDS = ("bytes", "flops", "bits", "launches", "messages", "message")
#: width of the operands of an operator a pass does not have [bit]
NONE_BITS = 16.0


def stack(lists: Sequence[Sequence[Operator]], loads: int | None = None) -> list[Operator]:
    """Return operators of the same name side by side, [list] or, over `loads` loads each, [list, load or 1].

    A list without one has zeros. An amount that no load changes keeps one column.
    """
    size = (len(lists),) if loads is None else (len(lists), 1)
    first: dict[str, Operator] = {}
    operators: dict[str, dict[str, Array]] = {}
    for i, row in enumerate(lists):
        for o in row:
            if o.name not in operators:
                first[o.name] = o
                operators[o.name] = {f: np.zeros(size) for f in FIELDS} | {"bits": np.full(size, NONE_BITS)}
            columns = operators[o.name]
            for f in FIELDS:
                amount = getattr(o, f)
                if loads is not None and np.ndim(amount) and columns[f].shape[1] == 1:
                    columns[f] = np.repeat(columns[f], loads, axis=1)
                columns[f][i] = amount
    return [first[name]._replace(**columns) for name, columns in operators.items()]
