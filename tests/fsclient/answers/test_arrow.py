"""The one Arrow form of an answer: exact in both directions, refused when it is another request's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fsclient.answers.answers import LatestAnswer, RangeAnswer, latest_answer, range_answer
from fsclient.answers.arrow import (
    ArrowFormError,
    bars_from_arrow,
    bars_to_arrow,
    frame_from_arrow,
    frame_to_arrow,
    is_answer,
    latest_from_arrow,
    range_from_arrow,
)
from fsclient.answers.values import NO_BAR, LatestValues, RangeValues
from fsclient.cache.shared_codec import decode, encode
from fsclient.fallback.last_good import LastGood
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import range_request
from tests.fsclient.stack import NOW, PUBLISHED

NOW_US = int(NOW.timestamp() * 1e6)
HOUR_US = 3_600_000_000
LATEST = latest_request(PUBLISHED, ["close", "rsi_14"], "1h")
RANGE = range_request("EUR/USD", "2024-06-24", "2024-06-26", "1h", ["close", "rsi_14"])


def a_lookup() -> LatestAnswer:
    """Of two symbols, the second without a bar."""
    values = LatestValues(
        values=np.array([[0.1 + 0.2, 55.0], [np.nan, np.nan]]),
        stored=np.array([[True, True], [False, False]]),
        event_us=np.array([[NOW_US - 1_800_000_000] * 2, [NO_BAR] * 2]),
    )
    return latest_answer(LATEST, values, NOW_US, source="online")


def a_range(bars: int = 5) -> RangeAnswer:
    opens = RANGE.start.value // 1000 + HOUR_US * np.arange(bars)
    columns = {"close": np.linspace(1, 2, bars), "rsi_14": np.full(bars, np.nan)}
    return range_answer(RANGE, RangeValues(opens_us=opens, columns=columns), NOW_US, source="offline")


ANSWERS: dict[str, Callable[[], LatestAnswer | RangeAnswer]] = {
    "lookup": a_lookup,
    "range": a_range,
    "empty range": lambda: a_range(0),
}


def assert_same(frame: pd.DataFrame, like: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame, like, check_exact=True, check_freq=True, check_column_type="exact")
    assert frame.attrs == like.attrs
    assert frame.to_numpy().tobytes() == like.to_numpy().tobytes() or frame.dtypes.nunique() > 1


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_frame_comes_back_exactly_and_is_its_callers_own(kind: str) -> None:
    answer = ANSWERS[kind]()
    assert is_answer(answer.fresh())
    body = frame_to_arrow(answer.fresh())
    frame = frame_from_arrow(body)
    assert_same(frame, answer.fresh())
    frame.iloc[:, 0] = -1.0
    frame.attrs["provenance"]["source"] = "spoilt"
    assert_same(frame_from_arrow(body), answer.fresh())


def test_an_answer_comes_back_for_its_request() -> None:
    lookup, bars = a_lookup(), a_range()
    assert_same(latest_from_arrow(frame_to_arrow(lookup.fresh()), LATEST).fresh(), lookup.fresh())
    for names in (RANGE.columns, None):
        assert_same(range_from_arrow(frame_to_arrow(bars.fresh()), names).fresh(), bars.fresh())


def test_bars_come_back_exactly() -> None:
    columns = {name: np.array([1.5, np.nan]) for name in ("open", "high", "low", "close", "volume")}
    bars = RangeValues(opens_us=np.array([NOW_US, NOW_US + HOUR_US]), columns=columns)
    back = bars_from_arrow(bars_to_arrow(bars))
    np.testing.assert_array_equal(back.opens_us, bars.opens_us)
    for name, values in columns.items():
        assert back.columns[name].tobytes() == values.tobytes()


def test_the_index_is_the_first_column_and_the_provenance_is_the_metadata() -> None:
    table = pa.ipc.open_stream(frame_to_arrow(a_lookup().fresh())).read_all()
    assert table.column_names == ["symbol", "close", "rsi_14", "event_timestamp", "age_bars"]
    assert list(table.schema.metadata) == [b"provenance"]
    assert table["close"].null_count == 0
    assert table["event_timestamp"].null_count == 1


@pytest.mark.parametrize("kind", ANSWERS)
def test_the_shared_tier_and_the_last_good_answers_hold_this_form(kind: str, tmp_path: Any) -> None:
    answer = ANSWERS[kind]()
    form = frame_to_arrow(answer.fresh())
    shared = encode(answer.fresh())
    assert shared is not None
    assert shared.endswith(form)
    assert_same(decode(shared), answer.fresh())
    if answer.record.as_of is None:
        return  # nothing was found, so it is no good answer
    LastGood(tmp_path / "spool", now=NOW.timestamp).spool("key", answer)
    (file,) = (tmp_path / "spool").glob("*.arrow")
    assert file.read_bytes().endswith(form)


OTHERS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "another attribute": lambda frame: _with_attrs(frame, {**frame.attrs, "mine": 1}),
    "half a provenance": lambda frame: _with_attrs(frame, {"provenance": {"source": "online", "missing": []}}),
    "no provenance": lambda frame: _with_attrs(frame, {}),
    "another index": lambda frame: frame.reset_index(),
    "whole numbers": lambda frame: frame.assign(close=1),
    "text": lambda frame: frame.assign(close="1"),
    "named columns": lambda frame: frame.rename_axis(columns="field"),
    "nanoseconds": lambda frame: frame.set_axis(frame.index.as_unit("ns")),
}


def _with_attrs(frame: pd.DataFrame, attrs: dict[str, Any]) -> pd.DataFrame:
    frame.attrs = attrs
    return frame


@pytest.mark.parametrize("change", OTHERS)
def test_what_the_form_would_bend_is_no_answer(change: str) -> None:
    assert not is_answer(OTHERS[change](a_range().fresh()))


def test_another_questions_answer_is_refused() -> None:
    lookup, bars = frame_to_arrow(a_lookup().fresh()), frame_to_arrow(a_range().fresh())
    other = latest_request(PUBLISHED[::-1], ["close", "rsi_14"], "1h")
    for read in (
        lambda: latest_from_arrow(bars, LATEST),
        lambda: latest_from_arrow(lookup, other),
        lambda: range_from_arrow(lookup, RANGE.columns),
        lambda: range_from_arrow(bars, ("close",)),
        lambda: bars_from_arrow(bars),
    ):
        with pytest.raises(ArrowFormError, match="an answer of other"):
            read()


@pytest.mark.parametrize("body", [b"", b"not arrow", frame_to_arrow(a_range().fresh())[:-200]], ids=len)
def test_what_is_not_whole_is_refused(body: bytes) -> None:
    with pytest.raises(ArrowFormError):
        frame_from_arrow(body)


def test_an_answer_without_its_provenance_is_refused() -> None:
    table = pa.ipc.open_stream(frame_to_arrow(a_range().fresh())).read_all().replace_schema_metadata({})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ArrowFormError, match="without a provenance"):
        frame_from_arrow(sink.getvalue().to_pybytes())
