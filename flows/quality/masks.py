"""Which rows break a rule: the rules as NumPy masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.quality.rules import Ascending, InOrder, NotEmpty, Present, Rule, Typed, Unique, Within

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def batch_problem(rules: Sequence[Rule], table: pd.DataFrame) -> tuple[Rule, str] | None:
    """The first rule about the whole batch that ``table`` breaks, and what is wrong; None when it keeps them all."""
    return next(((rule, problem) for rule in rules if (problem := _problem(rule, table))), None)


def bad_rows(rule: Rule, table: pd.DataFrame) -> BoolArray:
    """Which rows of ``table`` break a rule, shape (rows,); all of them when the batch as a whole does."""
    demand = rule.demand
    match demand:
        case NotEmpty() | Typed():
            return np.full(len(table), bool(_problem(rule, table)))
        case Present():
            missing = _missing(table[rule.columns[0]])
            return missing if demand.unless is None else missing & ~table[demand.unless].to_numpy(dtype=np.bool_)
        case Within():
            values = table[rule.columns[0]].to_numpy()
            return np.asarray((values < demand.low) | (values > demand.high))
        case InOrder():
            first, second = (table[name].to_numpy() for name in rule.columns)
            return out_of_order(first, second, demand.tolerance)
        case Unique():
            return _repeated(table[list(demand.values)], rule.columns[0])
        case Ascending():
            return _behind(table[rule.columns[0]])
        case _:
            assert_never(demand)


def out_of_order(first: FloatArray, second: FloatArray, tolerance: float) -> BoolArray:
    """Where ``first`` exceeds ``second`` by more than a share ``tolerance`` of the larger one's magnitude."""
    with np.errstate(invalid="ignore", over="ignore"):
        slack = tolerance * np.maximum(np.abs(first), np.abs(second))
        return np.asarray((first > second) & ~((first - second <= slack) & np.isfinite(slack)))


def _problem(rule: Rule, table: pd.DataFrame) -> str:
    if isinstance(rule.demand, NotEmpty) and table.empty:
        return "empty batch"
    if isinstance(rule.demand, Typed):
        dtypes = [(name, str(dtype)) for name, dtype in table.dtypes.items()]
        for name, dtype in zip(rule.columns, rule.demand.dtypes, strict=True):
            actual = [d for n, d in dtypes if n == name]
            if not actual:
                return f"column {name!r} is missing"
            if len(actual) > 1:
                return f"column {name!r} is there {len(actual)} times"
            if actual != [dtype]:
                return f"column {name!r} is {actual[0]}: convert it to {dtype}"
    return ""


def _missing(column: pd.Series) -> BoolArray:
    return np.asarray(column.isna(), dtype=np.bool_)


def _repeated(table: pd.DataFrame, key: str) -> BoolArray:
    """Rows that share their key with another. Where all rows of a key agree in every column the first is left out."""
    repeated = np.asarray(table[key].duplicated(keep=False) & table[key].notna(), dtype=np.bool_)
    suspects = table[repeated]
    copies = suspects.duplicated()
    versions = suspects[key][~copies]
    contradicted = suspects[key].isin(versions[versions.duplicated()])
    repeated[repeated] = copies | contradicted
    return repeated


def _behind(column: pd.Series) -> BoolArray:
    """Rows earlier than one before them."""
    known = ~_missing(column)
    times = column.to_numpy(dtype="datetime64[us]")[known]
    behind = np.zeros(len(column), dtype=np.bool_)
    behind[known] = times < np.maximum.accumulate(times)
    return behind
