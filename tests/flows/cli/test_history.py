"""The commands about what is stored: how each ends, what it prints, and that its JSON holds all of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.stores.redis.codec import doubt_key, encode_double, entity_key, field_key
from flows.backfill.span import backfill_key, span_of
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
Fstore = Callable[..., Any]
PAIRS = ["EUR/USD", "GBP/USD", "AUD/USD"]
LACKING = slice(20, 23)


@pytest.fixture
def stored(make_bars: Make, take: Take, settings: Settings, ledger: Ledger, now: datetime) -> pd.DataFrame:
    """Three pairs without the same three hours, one of them without another hour; computed and online."""
    bars = make_bars(60)
    for symbol in PAIRS:
        missing = [*range(*LACKING.indices(60)), *([40] if symbol == "GBP/USD" else [])]
        take(make_bars(60, symbol=symbol).drop(index=missing).reset_index(drop=True), symbol=symbol)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), PAIRS, ["1h", "4h"], settings)
    return bars


def spoil(redis: Any, settings: Settings) -> None:
    key = entity_key("EUR/USD", settings.repo().project)
    redis.hset(key, field_key("indicators_1h", "rsi_14"), encode_double(1.5))


def test_verify_finds_and_backfill_mends(
    stored: pd.DataFrame, fstore: Fstore, redis: Any, settings: Settings, prefect_server: str
) -> None:
    ended = fstore("verify", "--timeframe", "1h")
    assert ended.code == 0
    assert ended.out.count("same") == 3
    spoil(redis, settings)
    ended = fstore("verify", "--symbol", "EUR/USD", "--timeframe", "1h", "--json")
    assert ended.code == 1
    (series,) = ended.json["series"]
    assert (series["state"], series["by_rule"]) == ("differs", {"online": 1})
    assert (
        "in doubt EUR/USD 1h: a value online is not the one that was stored: rsi_14 of indicators_1h is 1.5"
        in ended.err
    )
    mark = redis.hget(entity_key("EUR/USD", settings.repo().project), doubt_key("1h"))
    assert mark.decode() == series["reason"]
    shown = fstore("latest", "EUR/USD", "--timeframe", "1h", "--features", "rsi_14")
    assert "STALE" in shown.out
    repaired = fstore("backfill", "--symbol", "EUR/USD")
    assert repaired.code == 0
    assert "EUR/USD 1h" in repaired.out
    ended = fstore("verify", "--sample", "3", "--seed", "4", "--timeframe", "1h")
    assert ended.code == 0
    assert "EUR/USD 1h  is not in doubt any more" in ended.out
    assert "--seed 4" in ended.out
    lacking = fstore("verify", "--symbol", "USD/JPY")
    assert lacking.code == 1
    assert "USD/JPY: no stored bars make" in lacking.err
    assert "STALE" not in fstore("latest", "EUR/USD", "--timeframe", "1h", "--features", "rsi_14").out


def test_a_backfill_is_taken_up_again(
    stored: pd.DataFrame, fstore: Fstore, ledger: Ledger, prefect_server: str
) -> None:
    arguments = ["backfill", "--start", "2024-01-08", "--end", "2024-01-09", "--timeframe", "1h"]
    begin, end = (stored["open_time"].iloc[0].to_pydatetime() + timedelta(days=d) for d in (0, 2))
    key = backfill_key(None, ["1h"], span_of(begin, end - timedelta(microseconds=1)))
    ledger.mark_backfilled(key, "EUR/USD", "1h")
    resumed = fstore(*arguments)
    assert resumed.code == 0
    assert "Taken up again: 1 of it were done before" in resumed.err
    assert "EUR/USD" not in resumed.out
    assert not ledger.backfill_done(key)  # finished: the same command is a new one
    ledger.mark_backfilled(key, "EUR/USD", "1h")
    again = fstore(*arguments, "--restart", "--json")
    assert [row["symbol"] for row in again.json] == sorted(PAIRS)
    assert {row["unchanged"] for row in again.json} == {44, 45}
    assert fstore("backfill", "--start", "2024-02-01", "--end", "2024-01-01").code == 2
    assert fstore("backfill", "--start", "soon").code == 2
    lacking = fstore("backfill", "--symbol", "USD/JPY")
    assert lacking.code == 1
    assert "stopped USD/JPY: it has no stored bars" in lacking.err


def test_maintain_says_what_it_did(stored: pd.DataFrame, fstore: Fstore, tables: Any, prefect_server: str) -> None:
    before = tables.read("indicators").to_pandas()
    done = {row["table"]: row for row in fstore("maintain", "--json").json}
    assert [*done] == ["bars", "indicators", "quarantine", "ledger"]
    assert done["bars"]["removed"] > done["bars"]["added"] >= 1
    pd.testing.assert_frame_equal(tables.read("indicators").to_pandas(), before)
    assert "bars" in fstore("maintain").out
    assert fstore("maintain", "--file-days", "0").code == 2
    assert fstore("verify", "--timeframe", "1h").code == 0


def test_explain(stored: pd.DataFrame, fstore: Fstore) -> None:
    at = (stored["open_time"].iloc[30] + pd.Timedelta(hours=1)).isoformat()
    explanation = fstore("explain", "EUR/USD", "sma_5", "--at", at, "--json").json
    assert explanation["from_bars"] == 5
    assert explanation["stored"] == explanation["recomputed"] == explanation["online"] == pytest.approx(
        float(np.mean(stored["close"].iloc[26:31])), rel=1e-12
    )  # fmt: skip
    text = fstore("explain", "EUR/USD", "rsi_14").out
    for part in (
        "rsi_14(window=14) of close",
        "trading day 2024-01-10",
        "are there: not converged yet",
        "What was known",
    ):
        assert part in text
    assert "4 bars of 1h" in fstore("explain", "EUR/USD", "high", "--timeframe", "4h").out
    assert "it was ingested as it is" in fstore("explain", "EUR/USD", "close").out
    assert fstore("explain", "EUR/USD", "close", "--at", "2020-01-01").code == 1
    assert fstore("explain", "EUR/USD", "rsi_41").code == 2


def test_gaps_are_told_apart(stored: pd.DataFrame, fstore: Fstore) -> None:
    report = fstore("gaps", "GBP/USD", "--json").json
    assert [(gap["missing_bars"], gap["kind"]) for gap in report["gaps"]] == [(3, "feed_down"), (1, "missing")]
    (outage,) = report["outages"]
    assert (outage["session"], outage["symbols"], outage["quoting"]) == ("fx", 3, 3)
    assert outage["start"] == report["gaps"][0]["start"] == "2024-01-08T20:00:00Z"
    text = fstore("gaps").out
    assert text.count("feed_down") == 3
    assert "The feed was down" in text
    late = fstore("gaps", "--start", "2024-01-09", "--json").json
    assert [(gap["symbol"], gap["kind"]) for gap in late["gaps"]] == [("GBP/USD", "missing")]
    assert late["outages"] == []
    assert "No gaps" in fstore("gaps", "EUR/USD", "--start", "2024-01-09").out
    assert "No 1m bars" in fstore("gaps", "--timeframe", "1m").out
    assert fstore("gaps", "EUR/USB").code == 2


def test_a_weekend_shows_when_all_is_asked_for(make_bars: Make, take: Take, fstore: Fstore) -> None:
    take(make_bars(150))
    assert "closed" not in fstore("gaps").out
    assert [gap["kind"] for gap in fstore("gaps", "--all", "--json").json["gaps"]] == ["closed"]


def test_nothing_is_stored(fstore: Fstore, prefect_server: str) -> None:
    assert "No bars to verify" in fstore("verify").out
    assert "Nothing to backfill" in fstore("backfill").out
    assert fstore("maintain").code == 0
