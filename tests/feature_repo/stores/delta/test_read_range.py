"""Reading one symbol's range the quick way returns what the general read returns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.schemas import SCHEMAS, TIME

START = datetime(2024, 1, 30, 20, tzinfo=UTC)  # the bars lie in two months
BARS = 96
COLUMNS = ["open_time", *BAR_FIELDS]


def rows(symbol: str, hours: list[int], created: datetime, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    opens = [START + timedelta(hours=h) for h in hours]
    columns = {
        "symbol": pa.array([symbol] * len(hours)),
        "timeframe": pa.array(["1h"] * len(hours)),
        "open_time": pa.array(opens, TIME),
        "event_timestamp": pa.array([t + timedelta(hours=1) for t in opens], TIME),
        "created": pa.array([created] * len(hours), TIME),
        **{name: pa.array(rng.uniform(1, 2, len(hours))) for name in BAR_FIELDS},
    }
    schema = SCHEMAS["bars"]
    return pa.table({f.name: columns.get(f.name, pa.nulls(len(hours), f.type)) for f in schema if f.name != "month"})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> DeltaTables:
    """Files of one symbol, files of two, revisions, and rows that come in no order."""
    folder: Path = tmp_path_factory.mktemp("tables")
    tables = DeltaTables(str(folder))
    first, second = START + timedelta(days=30), START + timedelta(days=31)
    tables.append("bars", rows("EUR/USD", list(range(0, BARS, 2)), first, 1))
    tables.append(
        "bars",
        pa.concat_tables([rows("EUR/USD", list(range(BARS - 1, 0, -2)), first, 2), rows("GBP/USD", [3, 9], first, 3)]),
    )
    tables.append("bars", rows("EUR/USD", [5, 40, 80], second, 4))
    tables.append("bars", rows("AUD/USD", [1, 2, 3], second, 5))
    return tables


hours = st.one_of(st.none(), st.integers(-3, BARS + 3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    symbol=st.sampled_from(["EUR/USD", "GBP/USD", "AUD/USD", "USD/JPY"]),
    low=hours,
    high=hours,
    columns=st.sampled_from([(), ("close",), BAR_FIELDS]),
    known=st.sampled_from([None, START, START + timedelta(days=30), START + timedelta(days=31)]),
)
def test_a_range_is_what_the_general_read_gives(
    tables: DeltaTables,
    symbol: str,
    low: int | None,
    high: int | None,
    columns: tuple[str, ...],
    known: datetime | None,
) -> None:
    start, end = (None if h is None else START + timedelta(hours=h) for h in (low, high))
    span = {"start": start, "end": end, "columns": columns, "as_known_at": known}
    ours = tables.read_range("bars", timeframe="1h", symbol=symbol, **span)
    general = tables.read("bars", timeframe="1h", symbols=[symbol], **span).select(["open_time", *columns])
    assert ours.combine_chunks().equals(general.combine_chunks())


def test_no_table_is_an_empty_range(tmp_path: Path) -> None:
    rows = DeltaTables(str(tmp_path)).read_range(
        "bars", timeframe="1h", symbol="EUR/USD", start=None, end=None, columns=["close"]
    )
    assert rows.column_names == ["open_time", "close"]
    assert not rows.num_rows


def test_a_new_commit_is_seen(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path))
    for hour in (1, 2):
        tables.append("bars", rows("EUR/USD", [hour], START, hour))
        bars = tables.read_range("bars", timeframe="1h", symbol="EUR/USD", start=None, end=None, columns=["close"])
        assert bars.num_rows == hour
