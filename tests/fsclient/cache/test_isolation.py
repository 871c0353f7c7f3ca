from __future__ import annotations

import copy
import threading
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.cache.isolation import seal


def bars(rows: int = 5) -> pd.DataFrame:
    index = pd.date_range("2018-01-01", periods=rows, freq="h", tz="UTC", name="open_time").as_unit("us")
    frame = pd.DataFrame(np.arange(rows * 3.0).reshape(rows, 3), index=index, columns=["open", "high", "low"])
    frame.attrs["provenance"] = {"source": "online", "missing": [{"symbol": "EUR/USD"}], "stale": False}
    return frame


FRAMES = {
    "bars": bars(),
    "one column": bars()[["open"]],
    "mixed": bars().assign(event_timestamp=bars().index, age_bars=1, name="EUR/USD"),
    "no rows": bars(0),
    "no columns": bars()[[]],
    "arrays in cells": pd.DataFrame({"age": [1, 2], "window": [np.arange(3.0), np.arange(3.0)]}),
    "labels of several levels": bars().set_index("open", append=True),
    "categories": pd.DataFrame({"side": pd.Categorical(["buy", "sell"])}),
    "numbered": pd.DataFrame([[1, 2], [3, 4]]),
}


def scribble(frame: pd.DataFrame) -> None:
    """Change all that can be changed in a frame."""
    frame.index.name = "scribble"
    frame.columns.name = "scribble"
    frame.attrs.get("provenance", {}).get("missing", []).append("scribble")
    frame.attrs["scribble"] = True
    for position in range(frame.shape[1]):
        for cell in frame.iloc[:, position]:
            if isinstance(cell, np.ndarray):
                cell[:] = -1
        if len(frame) and frame.dtypes.iloc[position] == np.float64:
            frame.iloc[0, position] = -1
            values = frame.iloc[:, position].to_numpy()
            values[-1] = -1
    for labels in (frame.index.values, frame.columns.values):
        if labels.flags.writeable and len(labels) > 1 and not isinstance(frame.index, pd.MultiIndex):
            labels[0] = labels[-1]
    frame.insert(0, "scribble", 1)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_out_as_it_went_in(name: str) -> None:
    frame = FRAMES[name]
    out = seal(frame).fresh()
    pd.testing.assert_frame_equal(out, frame)
    assert out.attrs == frame.attrs
    assert out.index.names == frame.index.names


@pytest.mark.parametrize("name", FRAMES)
def test_changing_the_frame_that_was_put_in_changes_nothing(name: str) -> None:
    given_frame = copy_of(name)
    sealed = seal(given_frame)
    scribble(given_frame)
    pd.testing.assert_frame_equal(sealed.fresh(), FRAMES[name])
    assert sealed.fresh().attrs == FRAMES[name].attrs


@pytest.mark.parametrize("name", FRAMES)
def test_changing_a_frame_that_was_taken_changes_nothing(name: str) -> None:
    sealed = seal(FRAMES[name])
    other = sealed.fresh()
    scribble(sealed.fresh())
    for frame in (sealed.fresh(), other, FRAMES[name]):
        pd.testing.assert_frame_equal(frame, copy_of(name))
        assert frame.attrs == copy_of(name).attrs


def copy_of(name: str) -> pd.DataFrame:
    """An independent frame, copied where pandas would share."""
    frame = FRAMES[name]
    if name == "arrays in cells":
        return pd.DataFrame({"age": [1, 2], "window": [np.arange(3.0), np.arange(3.0)]})
    out = frame.copy()
    out.index, out.columns = frame.index.copy(deep=True), frame.columns.copy(deep=True)
    out.attrs = copy.deepcopy(frame.attrs)
    return out


def test_a_taken_frame_can_be_worked_with() -> None:
    frame = seal(bars(48)).fresh()
    frame["close"] = frame["open"] * 2
    frame.loc[frame.index[0], "close"] = 0.0
    assert len(frame.resample("D").mean()) == 2
    assert frame.join(bars(48), rsuffix="_other").shape == (48, 7)
    assert frame.index.tz_convert("America/New_York")[0] == frame.index[0]
    assert frame.loc["2018-01-02"].shape == (24, 4)
    assert frame.shift(1, freq="h").index[0] == frame.index[1]
    assert frame.reindex(frame.index[::-1]).iloc[-1]["close"] == 0.0


def test_taken_frames_share_no_lookup_table() -> None:
    """Fault: pandas fills an index's table in one thread while another one already looks into it."""
    sealed = seal(bars(2_000))
    labels = bars(2_000).index[::97]
    missed: list[Any] = []

    def strategy() -> None:
        try:
            for _ in range(20):
                frame = sealed.fresh()
                for label in labels:
                    frame.loc[label]
        except KeyError as error:
            missed.append(error)

    threads = [threading.Thread(target=strategy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
    first, second = sealed.fresh(), sealed.fresh()
    assert first.index._engine is not second.index._engine


def test_a_series_is_a_frames_equal() -> None:
    series = bars()["open"]
    series.attrs = {"provenance": {"missing": []}}
    sealed = seal(series)
    copy = sealed.fresh()
    pd.testing.assert_series_equal(copy, series)
    copy.iloc[0] = series.iloc[1] = -1
    copy.attrs["provenance"]["missing"].append(1)
    assert sealed.fresh().tolist() == bars()["open"].tolist()
    assert sealed.fresh().attrs == {"provenance": {"missing": []}}


def test_a_series_of_arrays_is_copied_to_the_arrays() -> None:
    series = pd.Series([np.zeros(2), np.zeros(2)])
    sealed = seal(series)
    series[0][:] = 1
    sealed.fresh()[1][:] = 2
    assert [cell.tolist() for cell in sealed.fresh()] == [[0, 0], [0, 0]]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


def spoil(value: Any) -> None:
    """Empty every list and dict in it."""
    if isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
    if isinstance(value, list | dict):
        value.clear()


@given(plain)
def test_plain_values_come_out_equal_and_cannot_be_spoiled(value: Any) -> None:
    sealed, before = seal(value), copy.deepcopy(value)
    spoil(value)
    spoil(sealed.fresh())
    after = sealed.fresh()
    assert after == before
    assert type(after) is type(before)
    assert sealed.nbytes > 0


def test_values_inside_of_values_are_copied_too() -> None:
    value = {"frame": bars(), "arrays": [np.zeros(3)], "set": {1, 2}}
    sealed = seal(value)
    scribble(value["frame"])
    value["arrays"][0][:] = 7
    copy = sealed.fresh()
    copy["arrays"][0][:] = 8
    copy["set"].add(3)
    pd.testing.assert_frame_equal(sealed.fresh()["frame"], bars())
    assert sealed.fresh()["arrays"][0].tolist() == [0, 0, 0]
    assert sealed.fresh()["set"] == {1, 2}


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "EUR/USD", b"bytes", None, np.float64(1), pd.Timestamp("2018-01-01"), datetime(2018, 1, 1, tzinfo=UTC)],
)
def test_what_nobody_can_change_is_not_copied(value: Any) -> None:
    assert seal(value).fresh() is value


def test_what_cannot_be_copied_is_refused() -> None:
    with pytest.raises(TypeError, match="a lock cannot be copied"):
        seal(threading.Lock())


def test_the_size_of_a_frame_is_about_that_of_its_data() -> None:
    frame = pd.DataFrame(np.zeros((10_000, 26)))
    assert 1.0 <= seal(frame).nbytes / (10_000 * 26 * 8) < 1.1
    assert seal([frame] * 3).nbytes > 3 * 10_000 * 26 * 8
