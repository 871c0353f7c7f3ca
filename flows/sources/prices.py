"""Cells that hold numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.sources.error import Unreadable

MISSING = (
    *("", "nan", "NaN", "NAN", "-nan", "null", "Null", "NULL", "none", "None", "NONE"),
    *("na", "NA", "n/a", "N/A", "#n/a", "#N/A"),
)
"""Spellings of no value. Infinities are values: the quality gate judges them."""

_YES, _NO = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
_NUMBER = r"(?i)^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)$"


def read_numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers, or of their text, as float64; NaN where there is no value.

    Raises:
        Unreadable: the first cell that is not a number.
    """
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if is_text(column.type):
        column = _parse(column)
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or _is_other_number(column.type)):
        raise Unreadable(0, f"a column of {column.type}")
    numbers: NDArray[np.float64] = pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan).to_numpy()
    return numbers


def read_flags(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """A column of yes and no as 1.0 and 0.0, NaN where a cell is empty; None if it holds anything else."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    yes, no, empty = (pc.is_in(text, pa.array(words)).to_numpy() for words in (_YES, _NO, MISSING))
    empty |= text.is_null().to_numpy()
    return np.where(yes, 1.0, np.where(no, 0.0, np.nan)) if (yes | no | empty).all() else None


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_other_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_null(kind))


def _parse(text: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        pass  # spaces, a spelling of no value, or not a number: look at every cell
    text = pc.utf8_trim_whitespace(pc.cast(text, pa.string()))
    text = pc.if_else(pc.is_in(text, pa.array(MISSING)), None, text)
    bad = pc.index(pc.match_substring_regex(text, _NUMBER), False).as_py()
    if bad >= 0:
        raise Unreadable(bad, text[bad].as_py())
    return pc.cast(text, pa.float64())
