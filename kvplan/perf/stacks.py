"""Operators of many passes side by side: arrays of amounts, which the formulas of `perf` take as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvplan.perf.arrays import Array
from kvplan.perf.operators import Operator
from kvplan.perf.step_time import device_time, host_time
from kvplan.specs.calibration import Calibration

#: the amounts of every operator, and those that few have
FIELDS = ("bytes", "flops", "bits", "launches", "messages", "message", "ranks")
FEW = ("dense", "unpacks", "lags", "fixed", "fetched")
#: where an operator, a tuple, has them
PLACES = tuple((f, Operator._fields.index(f)) for f in (*FIELDS, *FEW))
#: width of the operands of an operator a pass does not have [bit]
NONE_BITS = 16.0


def stack(lists: Sequence[Sequence[Operator]], loads: int | None = None) -> list[Operator]:
    """Return operators of the same name side by side, [list] or, over `loads` loads each, [list, load or 1].

    A list without one has zeros. An amount that no load changes keeps one column, and one that no list has none.
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
            for f, place in PLACES:
                amount: Any = o[place]
                wide = getattr(amount, "ndim", 0) > 0
                if f not in columns:
                    if not (amount.any() if wide else amount):
                        continue
                    columns[f] = np.zeros(size)
                if wide and loads is not None and columns[f].shape[1] == 1:
                    columns[f] = np.repeat(columns[f], loads, axis=1)
                columns[f][i] = amount
    return [first[name]._replace(**columns) for name, columns in operators.items()]


@dataclass(frozen=True, kw_only=True)
class SharedOperators:
    """Operators that several rows share: each different list once, and which of them each row has."""

    row: Array  #: of each row, the place of its list among the operators
    operators: list[Operator]  #: [list, load or 1]

    def spread(self, times: Any) -> Any:
        """Return times of the different lists as times of the rows."""
        return times[self.row] if np.ndim(times) else times

    def device(self, c: Calibration, prompts: bool = False) -> Any:
        """Return how long the device takes for each row's operators. [s]"""
        return self.spread(device_time(self.operators, c, prompts))

    def host(self, c: Calibration) -> Any:
        """Return how long the host takes to launch them. [s]"""
        return self.spread(host_time(self.operators, c))
