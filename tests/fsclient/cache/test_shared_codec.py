from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.cache.shared_codec import decode, encode

OPEN_TIME = pd.date_range("2018-01-01", periods=4, freq="h", tz="UTC", name="open_time").as_unit("us")
BARS = pd.DataFrame({"open": [1.1, 1.2, math.nan, 1.4], "volume": math.nan}, index=OPEN_TIME)
BARS.attrs["provenance"] = {
    "source": "online",
    "as_of": None,
    "age_bars": 0,
    "complete": True,
    "missing": [{"bars": 2}],
}

TABLES = [
    BARS,
    BARS.iloc[:0],
    BARS.assign(event_timestamp=OPEN_TIME, age_bars=3, stale=False, small=np.float32(1)),
    BARS.reset_index(drop=True),
    BARS.set_axis(["EUR/USD", "GBP/USD", "a", "b"]),
    BARS.set_axis([3, 1, 2, 0]),
    BARS.tz_convert("America/New_York"),
    BARS.tz_convert(None),
    BARS["open"],
    BARS["open"].rename(None),
    pd.Series([1, 2], name="index"),
]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_comes_back_exactly(table: Any) -> None:
    data = encode(table)
    assert data is not None
    back = decode(data)
    compare = pd.testing.assert_frame_equal if isinstance(table, pd.DataFrame) else pd.testing.assert_series_equal
    compare(back, table, check_exact=True, check_freq=False)
    assert back.attrs == table.attrs
    assert back.index.name == table.index.name


@pytest.mark.parametrize(
    "table",
    [
        BARS.astype({"open": "category"}),
        BARS.astype({"open": object}),
        BARS.set_index("open", append=True),
        BARS.set_axis(["open", "open"], axis=1),
        BARS.set_axis([1, 2], axis=1),
        BARS.rename_axis("name", axis=1),
        BARS.rename_axis("open"),
        BARS.rename_axis(3),
        BARS.set_axis(["a", None, "b", "c"]),
        BARS[[]],
        BARS["open"].rename(5),
        pd.DataFrame({"window": [np.zeros(2)]}),
        pd.DataFrame({"period": pd.period_range("2018", periods=2, freq="D")}),
    ],
)
def test_a_table_that_would_come_back_otherwise_has_no_encoding(table: Any) -> None:
    assert encode(table) is None


def test_attrs_that_json_would_bend_are_not_shared() -> None:
    frame = BARS.copy()
    frame.attrs["parameters"] = (12, 26, 9)
    assert encode(frame) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(plain)
def test_a_plain_value_comes_back_equal_in_every_type_or_not_at_all(value: Any) -> None:
    data = encode(value)
    if data is not None:
        assert repr(decode(data)) == repr(value)


@pytest.mark.parametrize("value", [{"rsi_14": 55.5, "tags": ["a"], "n": None}, [1, 2], "EUR/USD", 2**63, b"\x00", True])
def test_ordinary_values_are_shared(value: Any) -> None:
    assert encode(value) is not None


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, (1,), {"a": math.nan}, np.float64(1), 2**64, "\ud800"])
def test_values_that_json_would_bend_are_not_shared(value: Any) -> None:
    assert encode(value) is None


def test_nothing_is_unpickled() -> None:
    """Fault: somebody who can write to Redis leaves a pickle there."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    bomb = pickle.dumps(Bomb())
    for data in (bomb, b"FSTORE\x01P" + bomb, b"FSTORE\x01F" + bomb, b"FSTORE\x01J" + bomb):
        with pytest.raises(ValueError, match="cached value"):
            decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"FSTORE", b"FSTORE\x02J1", b"FSTORE\x01", b"FSTORE\x01Z", b"FSTORE\x01F", b"{}"]
)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cached value"):
        decode(data)


@given(st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_worse(data: st.DataObject) -> None:
    whole = bytearray(encode(BARS) or b"")
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(whole[: data.draw(st.integers(8, len(whole)))]))
    except ValueError as error:
        assert "damaged" in str(error)  # noqa: PT017  # either outcome is right
