"""Fresh rows against stored ones: what is new, what is a revision, and when a revision counts as written."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.agreement import agree, equal, same_number
from feature_repo.stores.schemas import SCHEMAS, TIME
from flows.compute.changes import as_table, compare

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fresh_rows(values: dict[int, float]) -> pd.DataFrame:
    opens = pd.DatetimeIndex([START + slot * HOUR for slot in sorted(values)], tz="UTC").as_unit("us")
    return pd.DataFrame({"open_time": opens, "close": [values[slot] for slot in sorted(values)]})


def stored_rows(values: dict[int, tuple[float, int]]) -> pa.Table:
    """Rows of hour ``slot``: their close, and how many seconds after START they were written."""
    slots = sorted(values)
    return pa.table(
        {
            "open_time": pa.array([START + slot * HOUR for slot in slots], TIME),
            "created": pa.array([START + timedelta(seconds=values[slot][1]) for slot in slots], TIME),
            "close": pa.array([values[slot][0] for slot in slots], pa.float64()),
        }
    )


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


PRICES = st.sampled_from([1.0, 1.5, -0.0, 0.0, math.nan, math.nextafter(1.0, 2.0)])
SLOTS = st.integers(0, 9)


@given(
    fresh=st.dictionaries(SLOTS, PRICES),
    stored=st.dictionaries(SLOTS, st.tuples(PRICES, st.integers(0, 10**6))),
    clock_s=st.integers(0, 2 * 10**6),
)
def test_it_agrees_with_a_plain_dict(
    fresh: dict[int, float], stored: dict[int, tuple[float, int]], clock_s: int
) -> None:
    now = START + timedelta(seconds=clock_s)
    changes = compare(fresh_rows(fresh), stored_rows(stored), values=("close",))

    def same(slot: int) -> bool:
        was = stored[slot][0]
        return was == fresh[slot] or (math.isnan(was) and math.isnan(fresh[slot]))

    new = {slot for slot in fresh if slot not in stored}
    revised = {slot for slot in fresh if slot in stored and not same(slot)}
    unchanged = set(fresh) - new - revised
    assert (changes.stored, changes.revised, changes.unchanged) == (len(new), len(revised), len(unchanged))
    assert list(changes.rows["open_time"]) == [START + slot * HOUR for slot in sorted(new | revised)]

    written = [us(moment) for moment in changes.written_at(now)["created"].dt.tz_localize("UTC")]
    assert all(at >= us(now) for at in written)
    for slot in revised:
        was = us(START + timedelta(seconds=stored[slot][1]))
        assert all(at > was for at in written), "a revision is later than the revised"
    assert len(set(written)) <= 1, "one run writes at one moment"


def test_a_clock_that_went_back_still_writes_later() -> None:
    stored = stored_rows({0: (1.0, 1000), 1: (1.0, 2000)})
    rows = compare(fresh_rows({0: 1.0, 1: 1.1, 2: 1.2}), stored, values=("close",)).written_at(START)
    latest = START + timedelta(seconds=2000, microseconds=1)
    assert rows["created"].dt.tz_localize("UTC").tolist() == [latest, latest]


def test_two_spellings_of_one_number_are_no_revision_where_noise_is_tolerated() -> None:
    stored = stored_rows({0: (0.176, 0), 1: (0.0, 0), 2: (math.nan, 0), 3: (1.0, 0)})
    fresh = fresh_rows({0: 0.17600000000000002, 1: 0.0, 2: math.nan, 3: 1.0 + 1e-9})
    assert compare(fresh, stored, values=("close",)).revised == 2
    assert compare(fresh, stored, values=("close",), same=same_number).revised == 1


def test_a_value_that_appears_or_vanishes_is_a_revision() -> None:
    stored = stored_rows({0: (math.nan, 0), 1: (1.0, 0)})
    fresh = fresh_rows({0: 1.0, 1: math.nan})
    for same in (equal, same_number, agree):
        assert compare(fresh, stored, values=("close",), same=same).revised == 2


# ------------------------------------------------------------------------------------------------- as a table


def test_a_table_has_the_schemas_columns_and_nulls_for_absent_ones() -> None:
    rows = pd.DataFrame(
        {
            "open_time": pd.DatetimeIndex([START, pd.NaT], tz="UTC").as_unit("us"),
            "created": pd.DatetimeIndex([START, START]).as_unit("us"),
            "open": [math.nan, 1.0],
            "source_bars": [math.nan, 4.0],
            "line": [1, 2],
        }
    )
    table = as_table(rows, SCHEMAS["bars"], symbol="EUR/USD", timeframe="1h")
    assert table.schema.names == [name for name in SCHEMAS["bars"].names if name != "month"]
    assert all(table.schema.field(name).type == SCHEMAS["bars"].field(name).type for name in table.schema.names)
    assert table["symbol"].to_pylist() == ["EUR/USD"] * 2
    assert table["open_time"].to_pylist() == [START, None]
    assert np.isnan(table["open"][0].as_py())
    assert table["open"].null_count == 0  # a NaN is a value of a float column
    assert table["source_bars"].to_pylist() == [None, 4]
    assert table["close"].null_count == 2


@pytest.mark.parametrize("name", ["bars", "indicators", "quarantine"])
def test_no_rows_make_an_empty_table(name: str) -> None:
    table = as_table(fresh_rows({}), SCHEMAS[name], symbol="EUR/USD", timeframe="1h")  # type: ignore[index]
    assert table.num_rows == 0
