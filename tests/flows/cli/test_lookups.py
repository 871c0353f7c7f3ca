"""``fstore latest`` and ``fstore get`` say what the client says, with all digits and its provenance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.cli.lookups import DEFAULT_FEATURES, client
from fsclient import provenance

Run = Callable[..., Any]
RANGE = {"start_date": "2024-01-10", "end_date": "2024-01-12", "timeframe": "4h"}
RANGE_OPTIONS = ("--start", "2024-01-10", "--end", "2024-01-12", "--timeframe", "4h")


def ask(method: str, *arguments: Any, **options: Any) -> pd.DataFrame:
    """What the client answers."""

    async def read() -> pd.DataFrame:
        async with client() as reader:
            return await getattr(reader, method)(*arguments, **options)

    return asyncio.run(read())


def check_same(shown: dict[str, Any], frame: pd.DataFrame) -> None:
    """The printed JSON holds the frame's values to the bit, in its order, and its provenance."""
    expected = frame.reset_index()
    assert len(shown["rows"]) == len(frame)
    for row, (_, values) in zip(shown["rows"], expected.iterrows(), strict=True):
        assert [*row] == [*expected]
        for name, value in values.items():
            if isinstance(value, pd.Timestamp):
                assert pd.Timestamp(row[name]) == value
                assert row[name].endswith("Z")
            else:
                assert row[name] == (None if pd.isna(value) else value)
    assert shown["provenance"]["as_of"] == provenance(frame).as_of
    assert shown["provenance"]["missing"] == [dict(m) for m in provenance(frame).missing]


def test_latest_is_the_clients_answer(fstore: Run, published: pd.DataFrame) -> None:
    ended = fstore("latest", "EUR/USD", "--json")
    assert ended.code == 0
    check_same(ended.json, ask("get_latest", ["EUR/USD"], DEFAULT_FEATURES.split(","), timeframe="1h"))
    assert ended.json["rows"][0]["close"] == published["close"].iloc[-1]


def test_latest_of_several_symbols_and_timeframes(fstore: Run, published: pd.DataFrame) -> None:
    ended = fstore("latest", "GBP/USD", "EUR/USD", "--features", "4h:sma_20, bollinger_20_2", "--json")
    features = ["4h:sma_20", "bollinger_20_2"]
    check_same(ended.json, ask("get_latest", ["GBP/USD", "EUR/USD"], features, timeframe="1h"))
    assert [row["symbol"] for row in ended.json["rows"]] == ["GBP/USD", "EUR/USD"]
    assert ended.json["rows"][0]["4h:sma_20"] is None  # it has no bars, and the provenance says so
    assert not ended.json["provenance"]["complete"]


def test_get_is_the_clients_answer(fstore: Run, published: pd.DataFrame) -> None:
    ended = fstore("get", "EUR/USD", *RANGE_OPTIONS, "--json")
    assert ended.code == 0
    check_same(ended.json, ask("get_ohlcv", symbol="EUR/USD", **RANGE))
    assert [*ended.json["rows"][0]] == ["open_time", "open", "high", "low", "close", "volume"]


def test_get_indicators_is_the_clients_answer(fstore: Run, published: pd.DataFrame) -> None:
    names = ["sma_20", "macd_12_26_9"]
    ended = fstore("get", "EUR/USD", *RANGE_OPTIONS, "--indicators", "sma_20,macd_12_26_9", "--json")
    check_same(ended.json, ask("get_indicators", symbol="EUR/USD", indicators=names, **RANGE))
    assert None in [row["macd"] for row in ended.json["rows"]]  # its warm-up, as null


@pytest.mark.parametrize("arguments", [("latest", "EUR/USD"), ("get", "EUR/USD", *RANGE_OPTIONS)])
def test_the_table_ends_with_where_the_values_come_from(
    fstore: Run, published: pd.DataFrame, arguments: tuple[str, ...]
) -> None:
    ended = fstore(*arguments)
    assert ended.code == 0
    assert ended.out.splitlines()[-1].startswith(("from online, as of 2024-", "from offline, as of 2024-"))
    assert "bars old" in ended.out


def test_a_long_answer_is_cut_in_the_middle_and_says_so(fstore: Run, published: pd.DataFrame) -> None:
    ended = fstore("get", "EUR/USD", "--start", "2024-01-08", "--end", "2024-02-08")
    assert ended.out.splitlines()[-1].startswith("first and last 20 of ")
    assert sum(line.startswith(" 2024-") for line in ended.out.splitlines()) == 40


def test_nothing_stored_is_an_answer_too(fstore: Run) -> None:
    ended = fstore("get", "EUR/USD", *RANGE_OPTIONS, "--json")
    assert (ended.code, ended.json["rows"]) == (0, [])
    assert fstore("get", "EUR/USD", *RANGE_OPTIONS).code == 0
    assert fstore("latest", "EUR/USD").code == 0


# ------------------------------------------------------------------------------------------- how it looks


def test_a_screen_too_narrow_for_a_table_shows_blocks_and_cuts_nothing(
    fstore: Run, published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from flows.cli import show

    wide = fstore("latest", "EUR/USD").out
    monkeypatch.setattr(show, "out", Console(width=80, highlight=False))
    narrow = fstore("latest", "EUR/USD").out
    assert "…" not in narrow + wide
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))
    words = {word for word in wide.split() if not word.startswith("─")}
    assert words - set(narrow.split()) == {"symbol"}  # the heading of what stands above each block


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (np.nan, "-"),
        (pd.NaT, "-"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (5000, "5,000"),
        (np.int64(54_726), "54,726"),
        (1.229041, "1.22904"),
        (-0.00162318, "-0.00162318"),
        (68_123.45, "68,123.45"),
        (2034.567, "2,034.567"),
        (2281.0, "2,281"),
        (1234567.0, "1,234,567"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (pd.Timestamp("2024-01-08 05:00", tz="UTC"), "2024-01-08 05:00"),
        ("[bold]", "[bold]"),
    ],
)
def test_a_value_is_shown_as_a_person_reads_it(value: Any, shown: str) -> None:
    from flows.cli import show

    assert show.cell(value) == shown
