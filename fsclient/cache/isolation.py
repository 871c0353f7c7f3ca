"""Values kept apart from the caller that stored them and from those that read them: later changes change nothing here.

``seal`` takes a private copy, in a form that makes further copies quickly. Numbers, strings and the like cannot be
changed and stay themselves.

A frame's copy is that of its values (a 500 x 3 float64 frame: about 15 us). Its labels are not copied each time: the
sealed index's array is made read-only, and each copy gets an index of its own over it. ``attrs`` are taken off the
sealed frame, since pandas deep-copies them in every operation, and put back as a copy made here, several times faster.
"""

from __future__ import annotations

import copy
import sys
from abc import ABC, abstractmethod
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

T = TypeVar("T", pd.DataFrame, pd.Series)

_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, date, datetime, time, timedelta, Decimal}
    | {pd.Timestamp, pd.Timedelta, type(pd.NaT), type(pd.NA)}
)
_OBJECT = np.dtype(object)
_LABELS_BYTES = 2_000
"""What an empty frame takes: block manager, indexes, attributes."""


class Sealed(ABC):
    """A private copy of something."""

    __slots__ = ()
    nbytes: int
    """About what it takes in memory."""

    @abstractmethod
    def fresh(self) -> Any:
        """A copy for one caller."""


def seal(value: Any) -> Sealed:
    """A private copy of ``value``; ``value`` itself if it is one already.

    Raises:
        TypeError: it cannot be copied (an open file, a connection, a lock).
    """
    if isinstance(value, Sealed):
        return value
    if not _is_changeable(value):
        return _SealedConstant(value)
    kind = type(value)
    if kind is pd.DataFrame or kind is pd.Series:
        return _SealedTable(value)
    if kind is dict:
        return _SealedContainer({key: _sealed_item(item) for key, item in value.items()}, value.keys())
    if kind is list:
        return _SealedContainer([_sealed_item(item) for item in value], range(len(value)))
    if kind is np.ndarray and not value.dtype.hasobject:
        return _SealedArray(value)
    return _SealedObject(value)


def _sealed_item(item: Any) -> Any:
    """An item of a container: itself if it cannot be changed, so that the container's copies need no step for it."""
    return seal(item) if _is_changeable(item) else item


def _size_of(item: Any) -> int:
    return item.nbytes if isinstance(item, Sealed) else sys.getsizeof(item)


class _Copy(Sealed):
    """A ``Sealed`` that holds its size; of what is neither table, array, list nor dict without what it refers to."""

    __slots__ = ("nbytes",)


class _SealedConstant(_Copy):
    """What cannot be changed, itself."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value
        self.nbytes = sys.getsizeof(value)

    def fresh(self) -> Any:
        return self._value


class _SealedTable(_Copy, Generic[T]):
    __slots__ = ("_attrs", "_changeable", "_index", "_table")

    def __init__(self, table: T) -> None:
        self._table = table.copy()
        self._attrs = seal(dict(table.attrs))
        self._table.attrs = {}
        self._index = self._table.index = _frozen(table.index)
        if isinstance(table, pd.DataFrame):
            self._table.columns = _frozen(table.columns)
        self._changeable = _changeable_columns(self._table)
        for position in self._changeable:
            _copy_cells(self._table, position)
        self.nbytes = _LABELS_BYTES + 8 * table.size + int(table.index.nbytes) + self._attrs.nbytes

    def fresh(self) -> T:
        table = self._table.copy()
        # A view of the index would share its lookup table, which pandas fills lazily and not safely across threads.
        table.index = self._index[:]
        for position in self._changeable:
            _copy_cells(table, position)
        attrs = self._attrs.fresh()
        if attrs:
            table.attrs = attrs
        return table


class _SealedContainer(_Copy):
    """A list or a dict, with the keys of those items that need copies of their own."""

    __slots__ = ("_items", "_nested")

    def __init__(self, items: Any, keys: Any) -> None:
        self._items = items
        self._nested = [key for key in keys if isinstance(items[key], Sealed)]
        contents = (*items, *items.values()) if isinstance(items, dict) else items
        self.nbytes = sys.getsizeof(items) + sum(map(_size_of, contents))

    def fresh(self) -> Any:
        items = self._items.copy()
        for key in self._nested:
            items[key] = items[key].fresh()
        return items


class _SealedArray(_Copy):
    __slots__ = ("_array",)

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array.copy(order="K")
        self.nbytes = array.nbytes

    def fresh(self) -> npt.NDArray[Any]:
        return self._array.copy(order="K")


class _SealedObject(_Copy):
    """Anything else, by its own ``__deepcopy__``."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        try:
            self._value = copy.deepcopy(value)
        except Exception as error:
            raise TypeError(
                f"a {type(value).__name__} cannot be copied, so the cache cannot keep it apart from yours; "
                "store a frame, an array, or plain values"
            ) from error
        self.nbytes = sys.getsizeof(value)

    def fresh(self) -> Any:
        return copy.deepcopy(self._value)


def _frozen(index: pd.Index) -> pd.Index:
    """A copy of the index whose values cannot be written even through ``.values``."""
    own = index.copy(deep=True)
    values = own.values
    if isinstance(values, np.ndarray):
        values.flags.writeable = False
    return own


def _changeable_columns(table: pd.DataFrame | pd.Series) -> list[int]:
    """Positions of the columns whose cells can be changed, as arrays can: pandas copies only references to them."""
    dtypes = [table.dtype] if isinstance(table, pd.Series) else table.dtypes
    return [i for i, dtype in enumerate(dtypes) if dtype == _OBJECT and any(map(_is_changeable, _column(table, i)))]


def _is_changeable(cell: Any) -> bool:
    return type(cell) not in _IMMUTABLE and not isinstance(cell, np.generic)


def _column(table: pd.DataFrame | pd.Series, position: int) -> pd.Series:
    return table if isinstance(table, pd.Series) else table.iloc[:, position]


def _copy_cells(table: pd.DataFrame | pd.Series, position: int) -> None:
    """Replace a column's cells by copies of them."""
    column = _column(table, position)
    cells = np.empty(len(column), dtype=object)
    for i, cell in enumerate(column):
        cells[i] = copy.deepcopy(cell)
    if isinstance(table, pd.Series):
        table.iloc[:] = cells
    else:
        table.isetitem(position, cells)
