"""The gate's rules for live bars: the same rule data, compiled to a few comparisons of whole tables.

Great-expectations takes 30 ms per batch and the masks 10 us per rule; a live bar has to pass 160 rules in microseconds.
The demands and numbers are those of ``quality.rules``, and a property test holds this reading of them, the masks' and
great-expectations' to one verdict. ``FastRules`` only says which rows are bad; ``check_bars`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt

from flows.quality.masks import out_of_order
from flows.quality.rules import Ascending, InOrder, NotEmpty, Present, Rule, Typed, Unique, Within

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


class FastRules:
    """Rules about the rows of a float64 table.

    Rules about the batch as a whole (its types, that it is not empty) hold by construction: the table is a float64
    matrix. So do those about the time column, which is not part of it: the caller only passes rows in ascending order,
    each time once.

    Args:
        columns: names of the matrix's rows, in their order; booleans are 0.0 and 1.0.
    """

    def __init__(self, rules: Sequence[Rule], columns: Sequence[str], *, time: str) -> None:
        at = {name: i for i, name in enumerate(columns)}
        bounds: dict[int, tuple[float, float]] = {}
        self._order: list[tuple[int, int, float]] = []
        self._present: list[int] = []
        self.optional: Mapping[str, int]
        optional: dict[str, int] = {}
        for rule in rules:
            demand = rule.demand
            match demand:
                case NotEmpty() | Typed():
                    pass
                case Present() | Unique() | Ascending() if rule.columns[0] == time:
                    pass
                case Present(unless=None):
                    self._present.append(at[rule.columns[0]])
                case Present():
                    optional[rule.columns[0]] = at[rule.columns[0]]
                case Within():
                    low, high = bounds.get(i := at[rule.columns[0]], (-np.inf, np.inf))
                    bounds[i] = max(low, float(demand.low)), min(high, float(demand.high))
                case InOrder():
                    first, second = rule.columns
                    self._order.append((at[first], at[second], demand.tolerance))
                case Unique() | Ascending():
                    raise ValueError(f"{rule.name}: live bars are ordered and unique by {time} only")
                case _:
                    assert_never(demand)
        self.optional = optional
        """Columns that may be NaN in some rows: name -> row of the matrix."""
        self._optional = np.array([*optional.values()], dtype=np.intp)
        self._lower = np.array([first for first, _, _ in self._order], dtype=np.intp)
        self._upper = np.array([second for _, second, _ in self._order], dtype=np.intp)
        self._bounded = np.array([*bounds], dtype=np.intp)
        limits = np.array([*bounds.values()], dtype=np.float64).reshape(-1, 2)
        self._low, self._high = limits[:, :1], limits[:, 1:]

    def bad_rows(self, table: FloatArray, may_be_nan: BoolArray | None = None) -> BoolArray:
        """Which rows break a rule.

        Args:
            table: (columns, rows) float64.
            may_be_nan: (optional columns, rows), in the order of ``optional``; None: nowhere.

        Returns:
            (rows,) bool.
        """
        bounded = table[self._bounded]
        bad = np.asarray(((bounded < self._low) | (bounded > self._high)).any(axis=0))
        for i in self._present:
            bad |= np.isnan(table[i])
        if (table[self._lower] > table[self._upper]).any():  # which it hardly ever is
            for first, second, tolerance in self._order:
                bad |= out_of_order(table[first], table[second], tolerance)
        if len(self._optional):
            missing = np.isnan(table[self._optional])
            bad |= (missing if may_be_nan is None else missing & ~may_be_nan).any(axis=0)
        return bad
