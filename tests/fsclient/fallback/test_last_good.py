"""The last good answers, which stand in for an unavailable store, from memory and from a former process's disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fsclient.fallback.last_good as module
from feature_repo.repo import Repo
from feature_repo.stores.delta.tables import DeltaTables
from fsclient import FeatureStoreClient, FeatureStoreUnavailable, StaleDataError
from fsclient.answers.answers import LatestAnswer, RangeAnswer, latest_answer
from fsclient.answers.values import NO_BAR, LatestValues
from fsclient.fallback.last_good import LastGood
from fsclient.frames import utc_index
from fsclient.provenance import Provenance, iso
from fsclient.questions.latest import latest_request
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import (
    NEWEST,
    NOW,
    PUBLISHED,
    START,
    Clock,
    Market,
    make_bars,
    source,
    store_bars,
    until,
)

Make = Callable[..., FeatureStoreClient]
NOW_US = int(NOW.timestamp() * 1e6)
REQUEST = latest_request(PUBLISHED, ["close", "rsi_14"], "1h")


def an_answer(close: float = 1.25, *, event_us: int = NOW_US - 1_800_000_000) -> LatestAnswer:
    """An answer to ``REQUEST`` of the bar that closed half an hour ago."""
    values = np.array([[close, 55.0], [1.5, np.nan]])
    latest = LatestValues(values=values, stored=np.ones((2, 2), bool), event_us=np.full((2, 2), event_us))
    return latest_answer(REQUEST, latest, NOW_US, source="online")


def a_range(bars: int) -> RangeAnswer:
    record = Provenance(
        source="offline", origin="offline", read_at=iso(NOW_US), as_of=iso(NOW_US), age_bars=0, complete=True
    )
    index = utc_index(np.arange(bars), "open_time")
    return RangeAnswer(index=index, values=np.zeros((1, bars)), names=("close",), record=record, read_us=NOW_US)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def last_good(folder: Path) -> LastGood:
    return LastGood(folder, now=NOW.timestamp)


def spooled(folder: Path) -> Path:
    (file,) = folder.glob("*")
    return file


# ------------------------------------------------------------------------------------------------------- on disk


def test_a_spooled_answer_comes_back_to_the_bit(last_good: LastGood, folder: Path) -> None:
    answer = an_answer()
    last_good.spool("key", answer)
    back = LastGood(folder, now=NOW.timestamp).read_spool("key")
    assert back is not None
    pd.testing.assert_frame_equal(back, answer.fresh(), check_exact=True)
    assert back.attrs == answer.fresh().attrs
    assert back.dtypes.equals(answer.fresh().dtypes)


def test_only_its_owner_can_read_it(last_good: LastGood, folder: Path) -> None:
    last_good.spool("key", an_answer())
    assert folder.stat().st_mode & 0o077 == 0
    assert spooled(folder).stat().st_mode & 0o077 == 0


_BODY: dict[str, bytes] = {}


@given(data=st.data(), flip=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_file_with_any_byte_altered_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, flip: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "altered"
    last_good = LastGood(folder, now=NOW.timestamp)
    if "whole" not in _BODY:
        last_good.spool("key", an_answer())
        _BODY["whole"] = spooled(folder).read_bytes()
    body = bytearray(_BODY["whole"])
    body[data.draw(st.integers(0, len(body) - 1))] ^= flip
    spooled(folder).write_bytes(body)
    assert last_good.read_spool("key") is None
    spooled(folder).write_bytes(_BODY["whole"])
    assert last_good.read_spool("key") is not None


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=50, deadline=None)
def test_a_torn_file_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.getbasetemp() / "torn"
    last_good = LastGood(folder, now=NOW.timestamp)
    last_good.spool("key", an_answer())
    body = spooled(folder).read_bytes()
    spooled(folder).write_bytes(body[: int(len(body) * share)])
    assert last_good.read_spool("key") is None
    spooled(folder).write_bytes(body)


def test_a_file_of_another_question_is_refused(last_good: LastGood, folder: Path) -> None:
    last_good.spool("key", an_answer())
    os.replace(spooled(folder), last_good._path("another"))  # noqa: PTH105  # as someone might
    assert last_good.read_spool("another") is None


def test_a_file_of_another_schema_is_refused(last_good: LastGood, monkeypatch: pytest.MonkeyPatch) -> None:
    last_good.spool("key", an_answer())
    assert last_good.read_spool("key") is not None
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    assert last_good.read_spool("key") is None


def test_a_file_from_the_future_is_refused(folder: Path) -> None:
    LastGood(folder, now=lambda: NOW.timestamp() + 3600).spool("key", an_answer())
    assert LastGood(folder, now=NOW.timestamp).read_spool("key") is None


def test_a_bar_from_the_future_is_refused(last_good: LastGood) -> None:
    last_good.spool("key", an_answer(event_us=NOW_US + 3_600_000_000))
    assert last_good.read_spool("key") is None


def test_a_file_is_json_and_arrow_and_never_code(last_good: LastGood, folder: Path) -> None:
    last_good.spool("key", an_answer())
    magic, _, payload = spooled(folder).read_bytes().split(b"\n", 2)
    assert magic == b"fsclient-last-good"
    assert json.loads(payload.split(b"\n", 1)[0])["key"] == "key"


def test_a_disk_that_fails_costs_the_fallback_and_not_the_call(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fault: where the folder should be, there is a file."""
    folder.write_text("")
    last_good = LastGood(folder, now=NOW.timestamp)
    last_good.spool("key", an_answer())
    assert last_good.read_spool("key") is None
    assert "cannot be kept on disk" in caplog.text


def test_a_full_disk_leaves_no_half_written_file(
    last_good: LastGood, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: no space is left, and the old file must stay as it was."""
    last_good.spool("key", an_answer(1.25))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    last_good.spool("key", an_answer(1.75))
    monkeypatch.undo()
    back = last_good.read_spool("key")
    assert back is not None
    assert back["close"].iloc[0] == 1.25
    assert len(list(folder.glob("*"))) == 1


def test_the_folder_does_not_grow_without_bound(
    last_good: LastGood, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 5)
    for n in range(205):
        last_good.spool(f"key {n}", an_answer())
    assert len(list(folder.glob("*"))) <= 105
    assert last_good.read_spool("key 204") is not None


# ---------------------------------------------------------------------------------------------------- in memory


def test_an_answer_is_worth_spooling_when_it_is_of_another_bar_or_a_correction(last_good: LastGood) -> None:
    assert last_good.keep("key", an_answer(1.25))
    last_good.spool("key", an_answer(1.25))
    assert not last_good.keep("key", an_answer(1.25))
    assert last_good.keep("key", an_answer(1.5)), "the same bar, corrected"
    assert last_good.keep("key", an_answer(1.25, event_us=NOW_US))


def test_an_answer_that_holds_nothing_is_not_a_good_one(last_good: LastGood) -> None:
    assert not last_good.keep("key", an_answer(event_us=NO_BAR))
    assert last_good.recall("key") is None


def test_memory_is_bounded_in_bytes(last_good: LastGood) -> None:
    for n in range(200):
        last_good.keep(f"key {n}", a_range(60_000))  # about a megabyte each
    assert sum(a.nbytes for a in last_good._memory.values()) <= 64 * 2**20
    assert last_good.recall("key 199") is not None
    assert last_good.recall("key 0") is None


def test_a_large_range_is_not_kept(last_good: LastGood) -> None:
    assert not last_good.keep("key", a_range(1_000_000))
    assert last_good.recall("key") is None


# --------------------------------------------------------------------------------------------------- in the client


async def test_from_memory_and_after_a_restart_from_disk(
    make_client: Make, proxy: Proxy, repo: Repo, clock: Clock
) -> None:
    first = make_client(use_cache=False, timeout_s=0.5)
    truth = await first.get_latest(PUBLISHED, ["close", "rsi_14"])
    proxy.refuse()
    in_memory = await first.get_latest(PUBLISHED, ["close", "rsi_14"])
    await first.close()
    await until(lambda: list((repo.home / "spool").glob("*.arrow")), "the answer to be on disk")

    second = make_client(use_cache=False, timeout_s=0.5)
    clock.forward(2 * 3600)
    on_disk = await second.get_latest(PUBLISHED, ["close", "rsi_14"])
    for frame, age in ((in_memory, 0), (on_disk, 2)):
        record = frame.attrs["provenance"]
        assert (record["source"], record["origin"], record["stale"]) == ("last_good", "online", True)
        assert record["age_bars"] == age
        assert list(frame["age_bars"]) == [age, age]
        pd.testing.assert_frame_equal(frame.drop(columns="age_bars"), truth.drop(columns="age_bars"), check_exact=True)


async def test_other_questions_have_no_last_good_answer(make_client: Make, proxy: Proxy) -> None:
    client = make_client(use_cache=False, timeout_s=0.5)
    await client.get_latest("EUR/USD", ["close", "rsi_14"])
    proxy.refuse()
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("EUR/USD", ["rsi_14"])
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("GBP/USD", ["close", "rsi_14"])


async def test_an_absent_symbol_asked_twice_stays_an_answer_of_the_store(make_client: Make) -> None:
    """The first answer, which holds nothing, must not come back as the last good one."""
    client = make_client(use_cache=False)
    for _ in range(3):
        frame = await client.get_latest("AUD/USD", ["close"])
        assert source(frame) == "online"
        assert frame.attrs["provenance"]["stale"] is False


async def test_a_value_of_another_timeframe_ages_by_its_own_bars(make_client: Make, proxy: Proxy, clock: Clock) -> None:
    """An hour on, a 4h answer is of the same bar, and the hourly value beside it one bar behind."""
    client = make_client(use_cache=False, timeout_s=0.5)
    question = (["close", "1h:close"], "4h")
    truth = await client.get_latest("EUR/USD", question[0], timeframe=question[1])
    assert truth.attrs["provenance"]["age_bars"] == 0
    proxy.refuse()
    clock.forward(31 * 60)  # 13:01: the hour and the 4h bar of 09:00 have both closed
    frame = await client.get_latest("EUR/USD", question[0], timeframe=question[1])
    assert frame.attrs["provenance"]["age_bars"] == 1
    clock.forward(2 * 3600)
    frame = await client.get_latest("EUR/USD", question[0], timeframe=question[1])
    assert frame["age_bars"].iloc[0] == frame.attrs["provenance"]["age_bars"] == 3


async def test_too_old_for_the_caller_is_an_error(make_client: Make, proxy: Proxy, clock: Clock) -> None:
    client = make_client(use_cache=False, max_age_bars=1, timeout_s=0.5)
    await client.get_latest("EUR/USD", ["close"])
    live = await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-27")
    closed = await client.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-05")
    proxy.refuse()
    clock.forward(3600)
    assert source(await client.get_latest("EUR/USD", ["close"])) == "last_good"
    clock.forward(3600)
    with pytest.raises(StaleDataError, match="2 bars old, and max_age_bars is 1"):
        await client.get_latest("EUR/USD", ["close"])
    with pytest.raises(StaleDataError):  # the offline store's newest bar is as old
        await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-27")
    again = await client.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-05")
    pd.testing.assert_frame_equal(again, closed)  # what is long past does not grow stale
    assert len(live) > 24


async def test_too_old_for_some_symbols_withholds_their_values_and_says_so(
    make_client: Make, market: Market, clock: Clock
) -> None:
    client = make_client(use_cache=False, max_age_bars=1)
    clock.forward(2 * 3600)
    market.publish("EUR/USD", "1h", market.advanced("EUR/USD", close=1.5))
    frame = await client.get_latest([*PUBLISHED, "AUD/USD"], ["close", "rsi_14"])
    record = frame.attrs["provenance"]
    assert frame.loc["EUR/USD", "close"] == 1.5
    assert frame.loc["GBP/USD", ["close", "rsi_14"]].isna().all()
    assert {(m["symbol"], m["reason"]) for m in record["missing"]} == {("GBP/USD", "expired"), ("AUD/USD", "no_data")}
    assert record["complete"] is False
    assert (record["age_bars"], record["as_of"]) == (1, "2024-06-26T13:00:00Z")
    with pytest.raises(StaleDataError):
        await client.get_latest(["GBP/USD", "AUD/USD"], ["close"])


async def test_recomputed_equals_online_within_1e9(make_client: Make, proxy: Proxy, market: Market) -> None:
    """Not to the bit: only as much history is read as the warm-up asks for, and sums round by where they begin."""
    names = [name for name in market.windows["EUR/USD", "1h"].columns if name != "open_time"]
    features = [*names, *(f"4h:{name}" for name in names)]
    client = make_client(use_cache=False, on_unavailable="recompute", timeout_s=10.0)
    online = await client.get_latest(PUBLISHED, features)
    proxy.refuse()
    recomputed = await client.get_latest(PUBLISHED, features)
    assert source(recomputed) == "recomputed"
    np.testing.assert_allclose(recomputed[features], online[features], rtol=1e-9, atol=1e-9)
    bars = ["open", "high", "low", "close", "volume"]
    np.testing.assert_array_equal(recomputed[bars], online[bars])  # these are what is stored
    pd.testing.assert_series_equal(recomputed["event_timestamp"], online["event_timestamp"])


async def test_a_bar_that_has_not_closed_yet_is_not_recomputed_from(
    make_client: Make, proxy: Proxy, market: Market, repo: Repo, tmp_path: Path
) -> None:
    """Fault: a clock that ran ahead has stored the bar that is still open."""
    offline = str(tmp_path / "offline")
    bars = make_bars("EUR/USD", "1h", START, NEWEST + pd.Timedelta(hours=1))
    store_bars(bars, "EUR/USD", "1h", DeltaTables(offline), NOW)
    client = make_client(repo=replace(repo, offline=offline), on_unavailable="recompute", timeout_s=5.0)
    proxy.refuse()
    latest = await client.get_latest("EUR/USD", ["close"])
    assert latest["event_timestamp"].iloc[0] == pd.Timestamp(NEWEST) + pd.Timedelta(hours=1)
    ohlcv = await client.get_ohlcv("EUR/USD", "2024-06-26", "2024-06-26")
    assert ohlcv.index[-1] == pd.Timestamp(NEWEST)
