"""Arrays to DataFrames, with the provenance that every answer carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.stores.codec import FloatArray
from fsclient.provenance import KEY, Provenance

Int64Array = npt.NDArray[np.int64]


def range_frame(
    opens_us: Int64Array, columns: Mapping[str, FloatArray], names: Sequence[str], record: Provenance
) -> pd.DataFrame:
    """A range's answer: index ``open_time`` (UTC), float64 columns in the order asked, its own memory."""
    values = np.column_stack([columns[name] for name in names]) if len(opens_us) else np.empty((0, len(names)))
    frame = pd.DataFrame(values, index=utc_index(opens_us, "open_time"), columns=list(names), copy=False)
    frame.attrs[KEY] = record.as_dict()
    return frame


def latest_frame(
    symbols: Sequence[str],
    names: Sequence[str],
    values: FloatArray,
    event_us: Int64Array,
    ages: Sequence[float],
    record: Provenance,
) -> pd.DataFrame:
    """A lookup's answer: a row a symbol in the order asked, its features, ``event_timestamp`` and ``age_bars``."""
    frame = pd.DataFrame(values, index=pd.Index(symbols, name="symbol"), columns=list(names), copy=False)
    frame["event_timestamp"] = utc_index(event_us)
    frame["age_bars"] = np.asarray(ages, dtype=np.float64)
    frame.attrs[KEY] = record.as_dict()
    return frame


def utc_index(us: Int64Array, name: str | None = None) -> pd.DatetimeIndex:
    """Microseconds since 1970-01-01 UTC as an index; ``NO_BAR`` is NaT."""
    stamps = us.astype("datetime64[us]")  # NumPy's NaT is the smallest int64, which NO_BAR is
    return pd.DatetimeIndex(stamps, name=name).tz_localize("UTC")
