"""Counts of a minute: adding, packing and bounding lose no call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.metrics.calls import CallRecord
from fsclient.metrics.history import MAX_SYMBOL_ROWS, OTHER, Slot, merge, pack, unpack
from fsclient.metrics.registry import Metrics

records = st.builds(
    CallRecord,
    method=st.sampled_from(["get_latest", "get_ohlcv"]),
    symbol=st.none() | st.sampled_from([f"S{n}/USD" for n in range(6)]),
    source=st.none() | st.sampled_from(["online", "cache"]),
    duration_s=st.floats(0, 200),
    error=st.none() | st.sampled_from(["RequestTimeout", "StaleDataError"]),
    cache_hit=st.none() | st.booleans(),
    stale=st.booleans(),
    attempts=st.integers(0, 3),
    rows=st.integers(0, 9),
)


def slot(calls: list[CallRecord]) -> Slot:
    counted = Slot()
    for call in calls:
        counted.count(call)
    return counted


def by_key(rows: list[list[object]], width: int) -> dict[tuple[object, ...], list[object]]:
    return {tuple(row[:width]): row[width:] for row in rows}


@given(st.lists(st.lists(records, max_size=20), max_size=4))
def test_the_sum_of_packed_parts_is_the_whole(parts: list[list[CallRecord]]) -> None:
    whole = slot([call for part in parts for call in part]).rows()
    added = merge(pack(slot(part).rows()) for part in parts)
    seconds = {key: row.pop(6) for key, row in by_key(whole.series, 2).items()}
    for key, row in by_key(added.series, 2).items():
        assert row.pop(6) == pytest.approx(seconds[key], abs=1e-4)
    assert {k: [v[:6], v[-1]] for k, v in by_key(whole.series, 2).items()} == {
        k: [v[:6], v[-1]] for k, v in by_key(added.series, 2).items()
    }
    assert by_key(whole.symbols, 3) == by_key(added.symbols, 3)


@given(st.lists(records, max_size=40))
def test_the_rows_hold_what_the_registry_counts(calls: list[CallRecord]) -> None:
    metrics = Metrics()
    for call in calls:
        metrics.record(call)
    rows = slot(calls).rows()
    report = metrics.get_metrics()
    assert sum(row[2] for row in rows.series) == report["calls"]["total"]
    assert sum(row[3] for row in rows.series) == report["cache"]["hits"]
    assert sum(sum(row[9].values()) for row in rows.series) == report["errors"]["total"]
    assert sum(row[3] for row in rows.symbols) == sum(report["calls"]["by_symbol"].values())


def test_symbols_beyond_the_bound_count_together() -> None:
    counted = slot([CallRecord("get_latest", f"S{n}", source="online") for n in range(MAX_SYMBOL_ROWS + 9)])
    rows = by_key(counted.rows().symbols, 3)
    assert rows["get_latest", "online", OTHER][0] == 9
    bounded = by_key(counted.rows(max_symbols=10).symbols, 3)
    assert len(bounded) == 10
    assert sum(row[0] for row in bounded.values()) == MAX_SYMBOL_ROWS + 9


def test_the_busiest_symbols_keep_their_names() -> None:
    counted = slot([CallRecord("get_latest", f"S{n}", source="online") for n in range(30) for _ in range(n)])
    names = {row[2] for row in counted.rows(max_symbols=5).symbols}
    assert names == {"S29", "S28", "S27", "S26", OTHER}


@pytest.mark.parametrize("packed", [b"", b"\x02x", b"\x01not zlib", pack(slot([]).rows())[:-3]])
def test_what_cannot_be_read_counts_nothing(packed: bytes) -> None:
    with pytest.raises(ValueError, match="metrics"):
        unpack(packed)
    assert merge([packed, pack(slot([CallRecord("get_latest")]).rows())]).series[0][2] == 1
