"""Arrays to DataFrames, fast: pandas' own ways cost several times the lookup that the frame holds.

A frame is made of prepared labels and of blocks that are prepared but for their values: the same blocks that pandas
itself would hold it in, by ``make_block``, which pandas offers to libraries that build frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.core.internals import BlockManager
from pandas.core.internals.api import make_block

from feature_repo.stores.redis.codec import FloatArray
from fsclient.provenance import KEY

Int64Array = npt.NDArray[np.int64]
Moments: TypeAlias = Any  # pandas.arrays.DatetimeArray, which pandas does not declare
UTC_US = pd.DatetimeTZDtype("us", "UTC")


class LatestLayout:
    """The frames of one lookup: one row per symbol, its features, then ``event_timestamp`` and ``age_bars``."""

    __slots__ = ("_columns", "_floats", "_moments", "_rows")

    def __init__(self, symbols: Sequence[str], features: Sequence[str]) -> None:
        n, m = len(symbols), len(features)
        self._rows = _labels(tuple(symbols), "symbol")
        self._columns = _labels((*features, "event_timestamp", "age_bars"))
        self._floats = make_block(np.empty((m + 1, n)), placement=np.r_[0:m, m + 1])
        self._moments = make_block(moments_of(np.zeros(n, np.int64)), placement=np.array([m]), ndim=2)

    def frame(self, floats: FloatArray, moments: Moments, record: dict[str, Any]) -> pd.DataFrame:
        """A frame with its own memory.

        Args:
            floats: (m + 1, n) float64: one row per feature, then the ages in bars.
            moments: (1, n), see ``moments_of``.
        """
        of_floats = self._floats.make_block_same_class(floats.copy())
        of_moments = self._moments.make_block_same_class(moments._from_backing_data(moments._ndarray.copy()))
        return _frame((of_floats, of_moments), _own(self._columns), _own(self._rows), record)


def range_frame(index: pd.DatetimeIndex, names: tuple[str, ...], values: FloatArray, record: dict[str, Any]) -> Any:
    """A range's answer: index ``open_time`` (UTC), float64 columns in the order asked, its own memory.

    Args:
        index: see ``utc_index``.
        values: (m, n) float64, one row per column.
    """
    block = _block_of(len(names)).make_block_same_class(values.copy())
    return _frame((block,), _own(_labels(names)), _own_moments(index), record)


def utc_index(us: Int64Array, name: str | None = None) -> pd.DatetimeIndex:
    """Microseconds since 1970-01-01 UTC as an index that many frames can share: its values can't be written."""
    index = pd.DatetimeIndex(moments_of(us).reshape(-1), name=name)
    index.values.flags.writeable = False
    return index


def _frame(blocks: tuple[Any, ...], columns: pd.Index, rows: pd.Index, record: dict[str, Any]) -> pd.DataFrame:
    axes = [columns, rows]
    frame: pd.DataFrame = pd.DataFrame._from_mgr(BlockManager(blocks, axes, verify_integrity=False), axes=axes)
    object.__setattr__(frame, "_attrs", {KEY: record})  # what pandas comes to after a search among the columns
    return frame


def moments_of(us: Int64Array) -> Moments:
    """Microseconds since 1970-01-01 UTC, (n,) int64, as pandas holds a column of them; the smallest int64 is NaT."""
    return pd.arrays.DatetimeArray._simple_new(us.astype("datetime64[us]").reshape(1, -1), dtype=UTC_US)


def _own(labels: pd.Index) -> pd.Index:
    """The same labels for one frame: they can be renamed, and looked up in any thread, without another's knowing."""
    return pd.Index._simple_new(labels._values, labels._name)


def _own_moments(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """As ``_own``; its frequency can be set as well, which pandas keeps with the moments."""
    return pd.DatetimeIndex._simple_new(index._data._from_backing_data(index._data._ndarray), index._name)


@lru_cache(maxsize=64)
def _block_of(columns: int) -> Any:
    """The one block of a frame with this many float64 columns, without its values."""
    return make_block(np.empty((columns, 0)), placement=slice(0, columns))


@lru_cache(maxsize=2048)
def _labels(names: tuple[str, ...], name: str | None = None) -> pd.Index:
    """Labels that every answer shares, and so may not be written, not even through ``.values``."""
    labels = pd.Index(names, dtype=object, name=name)
    labels.values.flags.writeable = False
    return labels
