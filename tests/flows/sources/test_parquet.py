"""Parquet files, in the types that writers use."""

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceError, SourceOptions, read_bars

NOON = pd.Timestamp("2020-07-01 12:00", tz="UTC")
PRICES = {"open": [1.0], "high": [4.0], "low": [0.5], "close": [2.0]}


@pytest.fixture
def read_table(tmp_path):
    def write_and_read(columns, **options):
        path = tmp_path / "bars.parquet"
        pq.write_table(pa.table(columns), path)
        return read_bars(path, symbol=symbol("EUR/USD"), timeframe=timeframe("1h"), options=SourceOptions(**options))

    return write_and_read


@pytest.mark.parametrize(
    "time",
    [
        pa.array([NOON], pa.timestamp("ns", "UTC")),
        pa.array([NOON], pa.timestamp("ms", "America/New_York")),
        pa.array([NOON.tz_localize(None)], pa.timestamp("us")),
        pa.array([int(NOON.timestamp())]),
        pa.array([int(NOON.timestamp()) * 1000]),
        pa.array([NOON.timestamp()], pa.float64()),
        pa.array(["2020-07-01T14:00:00+02:00"]),
        pa.array(["2020-07-01 12:00"]).dictionary_encode(),
        pa.array(["2020-07-01 12-PM"], pa.large_string()),
    ],
    ids=lambda array: str(array.type),
)
def test_types_of_time(read_table, time):
    source = read_table({"time": time, **PRICES})
    assert source.frame["open_time"][0] == NOON
    assert source.frame["open_time"].dtype == "datetime64[us, UTC]"


def test_naive_times_are_of_the_zone_asked_for(read_table):
    source = read_table({"time": pa.array([NOON.tz_localize(None)]), **PRICES}, tz="America/New_York")
    assert source.frame["open_time"][0] == NOON + pd.Timedelta(hours=4)
    source = read_table({"time": pa.array([date(2020, 7, 1), None]), **{k: v * 2 for k, v in PRICES.items()}})
    assert source.frame["open_time"].tolist() == [NOON.normalize()]
    assert source.rejected[["line", "detail"]].to_numpy().tolist() == [[2, "the row has no time"]]
    assert source.rejected["raw"][0] == "time=None, open=1.0, high=4.0, low=0.5, close=2.0"


@pytest.mark.parametrize(
    "close",
    [
        pa.array([2], pa.int32()),
        pa.array([2.0], pa.float32()),
        pa.array(["2"]),
        pa.array(["2.0"]).dictionary_encode(),
        pa.array([Decimal("2.00")]),
    ],
    ids=lambda array: str(array.type),
)
def test_types_of_numbers(read_table, close):
    assert read_table({"time": pa.array([NOON]), **PRICES, "close": close}).frame["close"][0] == 2.0


def test_no_numbers_at_all(read_table):
    source = read_table({"time": pa.array([NOON]), **PRICES, "close": pa.nulls(1), "volume": pa.nulls(1)})
    assert np.isnan(source.frame[["close", "volume"]].to_numpy()).all()


def test_text_and_other_types_in_a_price_name_the_row(read_table):
    columns = {"time": pa.array([NOON, NOON]), **{k: v * 2 for k, v in PRICES.items()}}
    with pytest.raises(SourceError, match=r"^bars\.parquet, row 2: close is 'oops', not a number"):
        read_table({**columns, "close": ["1", "oops"]})
    with pytest.raises(SourceError, match=r"^bars\.parquet, row 1: close is 'a column of bool', not a number"):
        read_table({**columns, "close": [True, False]})
    with pytest.raises(SourceError, match=r"^bars\.parquet: no column for low; its columns are 'time'"):
        read_table({name: values for name, values in columns.items() if name != "low"})


def test_the_frame_that_pandas_wrote_with_its_index(tmp_path):
    index = pd.date_range("2020-01-01", periods=3, freq="h", name=None)
    pd.DataFrame({name.title(): values * 3 for name, values in PRICES.items()}, index=index).to_parquet(
        tmp_path / "bars.anything"
    )
    source = read_bars(tmp_path / "bars.anything", symbol=symbol("EUR/USD"), timeframe=timeframe("1h"))
    assert source.frame["open_time"].tolist() == list(index.tz_localize("UTC"))
    assert source.frame["line"].tolist() == [1, 2, 3]
