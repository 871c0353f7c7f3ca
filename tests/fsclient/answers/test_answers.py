"""What an answer says: which bars a range has, from where, what is missing and why, how old it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES, Session
from feature_repo.freshness import next_close
from feature_repo.repo import Repo
from feature_repo.sessions import DAY_US, calendar_end, expected_opens
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import doubt_key, entity_key, field_key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.schemas import SCHEMAS
from flows.compute.changes import as_table
from fsclient import FeatureStoreClient, Provenance, UnknownSymbolError, provenance
from fsclient.answers.completeness import find_missing, is_complete
from fsclient.answers.repeating import CLOSED_S, DOUBTED_S, SETTLE_S, lifetime_s, prefixes
from fsclient.answers.values import RangeValues
from fsclient.provenance import from_dict, from_iso, iso
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import range_request
from tests.fsclient.stack import (
    EVERY_FIELD,
    KNOWN_WITHOUT_DATA,
    MINUTES,
    NEWEST,
    NOW,
    PUBLISHED,
    START,
    Clock,
    Market,
    hearing,
    make_bars,
    reasons,
    source,
    store_bars,
    store_indicators,
)

Make = Callable[..., FeatureStoreClient]
NOW_US = int(NOW.timestamp() * 1e6)


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    """Offline tables of the test's own."""
    return DeltaTables(str(tmp_path / "own"))


@pytest.fixture
def own_repo(repo: Repo, tables: DeltaTables) -> Repo:
    return replace(repo, offline=tables.root)


# ------------------------------------------------------------------------------------------- online and offline


async def test_a_range_is_the_same_to_the_bit_from_the_window_and_from_the_offline_store(
    client: FeatureStoreClient, market: Market
) -> None:
    for symbol in PUBLISHED:
        for tf, start in (("1h", "2024-06-05"), ("4h", "2024-04-01")):
            online = await client.get_indicators(symbol, start, "2024-06-30", tf, EVERY_FIELD)
            assert source(online) == "online"
            assert len(online) > 100
            with connect(market.url) as redis:
                redis.delete(entity_key(symbol, market.repo.project))
            client._pipeline._cache = None
            offline = await client.get_indicators(symbol, start, "2024-06-30", tf, EVERY_FIELD)
            assert source(offline) == "offline"
            assert offline.attrs["provenance"]["as_of"] == online.attrs["provenance"]["as_of"]
            pd.testing.assert_frame_equal(online, offline, check_exact=True)
            assert online.to_numpy().tobytes() == offline.to_numpy().tobytes()
            market.publish_all()


async def test_the_window_answers_only_what_it_reaches_back_to(client: FeatureStoreClient, market: Market) -> None:
    first = pd.Timestamp(market.windows["EUR/USD", "1h"].columns["open_time"][0], unit="s", tz="UTC")
    inside = await client.get_ohlcv("EUR/USD", first, "2024-06-30")
    before = await client.get_ohlcv("EUR/USD", first - pd.Timedelta(microseconds=1), "2024-06-30")
    assert (source(inside), source(before)) == ("online", "offline")
    pd.testing.assert_frame_equal(inside, before, check_exact=True)


async def test_a_range_is_stitched_when_the_offline_store_lags(
    make_client: Make, market: Market, tables: DeltaTables, own_repo: Repo
) -> None:
    """The offline store ends two days before the window does."""
    bars = make_bars("EUR/USD", "1h", START, NEWEST)
    store_bars(bars[bars["open_time"] < pd.Timestamp("2024-06-24", tz="UTC")], "EUR/USD", "1h", tables, NOW)
    client = make_client(repo=own_repo)
    stitched = await client.get_ohlcv("EUR/USD", "2024-03-01", "2024-06-30")
    whole = await make_client().get_ohlcv("EUR/USD", "2024-03-01", "2024-06-30")
    assert stitched.index[-1] == pd.Timestamp(NEWEST)
    assert stitched.attrs["provenance"]["complete"]
    pd.testing.assert_frame_equal(stitched, whole, check_exact=True)


async def test_between_an_offline_store_that_ends_early_and_the_window_a_gap_is_reported(
    make_client: Make, tables: DeltaTables, own_repo: Repo
) -> None:
    bars = make_bars("EUR/USD", "1h", START, NEWEST)
    store_bars(bars[bars["open_time"] < pd.Timestamp("2024-03-01", tz="UTC")], "EUR/USD", "1h", tables, NOW)
    frame = await make_client(repo=own_repo).get_ohlcv("EUR/USD", "2024-02-26", "2024-06-30")
    record = frame.attrs["provenance"]
    assert record["complete"] is False
    assert {m["reason"] for m in record["missing"]} == {"gap"}
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique


# ---------------------------------------------------------------------------------------------------- the frame


async def test_the_frame_is_what_the_contract_says(client: FeatureStoreClient) -> None:
    ohlcv = await client.get_ohlcv("EUR/USD", "2024-06-24", "2024-06-25")
    assert list(ohlcv.columns) == list(BAR_FIELDS)
    assert ohlcv.index.name == "open_time"
    assert str(ohlcv.index.dtype) == "datetime64[us, UTC]"
    assert ohlcv.index.is_monotonic_increasing
    assert ohlcv.index.is_unique
    assert set(map(str, ohlcv.dtypes)) == {"float64"}
    names = ["rsi_14", "close", "bb_upper"]
    assert list((await client.get_indicators("EUR/USD", "2024-06-24", "2024-06-25", "1h", names)).columns) == names
    latest = await client.get_latest(["GBP/USD", "EUR/USD"], names, timeframe="1h")
    assert list(latest.index) == ["GBP/USD", "EUR/USD"]
    assert list(latest.columns) == [*names, "event_timestamp", "age_bars"]
    assert latest.index.name == "symbol"
    assert str(latest["event_timestamp"].dtype) == "datetime64[us, UTC]"
    json.dumps(latest.attrs)


async def test_an_end_date_alone_is_the_whole_day_and_both_ends_are_inclusive(client: FeatureStoreClient) -> None:
    day = await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-25")
    assert (day.index[0], day.index[-1], len(day)) == (
        pd.Timestamp("2024-06-25", tz="UTC"),
        pd.Timestamp("2024-06-25 23:00", tz="UTC"),
        24,
    )
    hours = await client.get_ohlcv("EUR/USD", "2024-06-25 10:00", datetime(2024, 6, 25, 12))  # noqa: DTZ001
    assert list(hours.index.hour) == [10, 11, 12]
    local = await client.get_ohlcv("EUR/USD", "2024-06-25 10:00+02:00", pd.Timestamp("2024-06-25 06:00-04:00"))
    assert list(local.index.hour) == [8, 9, 10]


# ------------------------------------------------------------------------------------------------- what is missing


async def test_a_weekend_is_no_gap_and_a_missing_bar_is(make_client: Make, tables: DeltaTables, own_repo: Repo) -> None:
    bars = make_bars("EUR/USD", "1h", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 12, tzinfo=UTC))
    whole = make_bars("GBP/USD", "1h", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 12, tzinfo=UTC))
    out = bars["open_time"].isin(pd.to_datetime(["2024-03-05 10:00", "2024-03-05 11:00", "2024-03-08 21:00"], utc=True))
    store_bars(bars[~out], "EUR/USD", "1h", tables, NOW)
    store_bars(whole, "GBP/USD", "1h", tables, NOW)
    client = make_client(repo=own_repo)
    assert (await client.get_ohlcv("GBP/USD", "2024-03-01", "2024-03-11")).attrs["provenance"]["missing"] == []
    record = provenance(await client.get_ohlcv("EUR/USD", "2024-03-01", "2024-03-11"))
    assert record.complete is False
    assert record.missing == (
        {
            "symbol": "EUR/USD",
            "reason": "gap",
            "start": "2024-03-05T10:00:00Z",
            "end": "2024-03-05T11:00:00Z",
            "bars": 2,
        },
        {
            "symbol": "EUR/USD",
            "reason": "gap",
            "start": "2024-03-08T21:00:00Z",
            "end": "2024-03-08T21:00:00Z",
            "bars": 1,
        },
    )
    weekend = await client.get_ohlcv("GBP/USD", "2024-03-09", "2024-03-09")
    assert (len(weekend), weekend.attrs["provenance"]["complete"]) == (0, True)


async def test_five_reasons_for_no_value_are_five_answers(make_client: Make, market: Market, clock: Clock) -> None:
    client = make_client(max_age_bars=1, use_cache=False)
    with pytest.raises(UnknownSymbolError):
        await client.get_latest("EUR/USX", ["close"])
    assert reasons(await client.get_latest(KNOWN_WITHOUT_DATA, ["close"])) == {"no_data"}
    young = {name: values.copy() for name, values in market.windows["EUR/USD", "1h"].columns.items()}
    young["sma_200"][-1] = np.nan
    market.publish("USD/CHF", "1h", replace(market.windows["EUR/USD", "1h"], columns=young))
    assert reasons(await client.get_latest("USD/CHF", ["close", "sma_200"])) == {"warm_up"}
    with connect(market.url) as redis:
        redis.hdel(entity_key("USD/CHF", market.repo.project), field_key("indicators_1h", "rsi_14"))
    assert reasons(await client.get_latest("USD/CHF", ["close", "rsi_14"])) == {"not_stored"}
    with connect(market.url) as redis:
        null = b""  # as Feast writes it
        redis.hset(entity_key("USD/CHF", market.repo.project), field_key("indicators_1h", "rsi_14"), null)
    assert reasons(await client.get_latest("USD/CHF", ["close", "rsi_14"])) == {"not_stored"}
    market.publish("EUR/USD", "1h", market.advanced("EUR/USD"))
    clock.forward(2 * 3600)
    assert reasons(await client.get_latest(PUBLISHED, ["close"])) == {"expired"}


async def test_the_same_reasons_in_a_range(make_client: Make, tables: DeltaTables, own_repo: Repo) -> None:
    start, end = datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 7, tzinfo=UTC)
    bars = make_bars("EUR/USD", "1h", start, end)
    store_bars(bars, "EUR/USD", "1h", tables, NOW)
    indicators = bars[["open_time"]].head(48).assign(rsi_14=50.0, sma_20=[np.nan] * 19 + [1.0] * 29)
    store_indicators(indicators, "EUR/USD", "1h", tables, NOW)
    client = make_client(repo=own_repo)

    async def missing(symbol: str, *names: str) -> list[dict[str, Any]]:
        frame = await client.get_indicators(symbol, "2024-03-04", "2024-03-06", "1h", names)
        return [
            {k: v for k, v in m.items() if k in ("reason", "bars", "feature")}
            for m in frame.attrs["provenance"]["missing"]
        ]

    assert await missing("EUR/USD", "close") == []
    assert await missing("EUR/USD", "rsi_14") == [{"reason": "not_stored", "bars": 24}]  # the bar, not its indicators
    assert await missing("EUR/USD", "rsi_14", "close") == [{"reason": "not_stored", "bars": 24}]
    assert await missing(KNOWN_WITHOUT_DATA, "rsi_14") == [{"reason": "no_data", "bars": 72}]
    assert await missing(KNOWN_WITHOUT_DATA, "close") == [{"reason": "no_data", "bars": 72}]
    assert {"feature": "sma_20", "reason": "warm_up", "bars": 19} in await missing("EUR/USD", "sma_20")


async def test_an_indicator_that_came_to_the_catalog_later_is_not_stored_and_no_warm_up(
    make_client: Make, tables: DeltaTables, own_repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: rows that were written before a column existed read as null, which no warm-up explains."""
    bars = make_bars("EUR/USD", "1h", datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC))
    store_bars(bars, "EUR/USD", "1h", tables, NOW)
    with monkeypatch.context() as before:
        schema = SCHEMAS["indicators"]
        older = pa.schema([field for field in schema if field.name != "zscore_20"])
        before.setitem(SCHEMAS, "indicators", older)
        rows = bars[["open_time"]].assign(**dict.fromkeys(INDICATOR_FIELDS, 1.0)).drop(columns="zscore_20")
        closes = rows["open_time"] + np.timedelta64(3600, "s")
        whole = rows.assign(event_timestamp=closes, created=pd.Timestamp(NOW))
        tables.append("indicators", as_table(whole, older, symbol="EUR/USD", timeframe="1h"))
    frame = await make_client(repo=own_repo).get_indicators(
        "EUR/USD", "2024-03-04", "2024-03-04", "1h", ["rsi_14", "zscore_20"]
    )
    assert frame["zscore_20"].isna().all()
    assert [(m["feature"], m["reason"]) for m in frame.attrs["provenance"]["missing"]] == [("zscore_20", "not_stored")]


async def test_a_volume_that_the_source_does_not_report_is_neither_warm_up_nor_incomplete(
    make_client: Make, tables: DeltaTables, own_repo: Repo, market: Market
) -> None:
    start, end = datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC)
    store_bars(make_bars("EUR/USD", "1h", start, end, volume=False), "EUR/USD", "1h", tables, NOW)
    frame = await make_client(repo=own_repo).get_ohlcv("EUR/USD", "2024-03-04", "2024-03-04")
    assert frame["volume"].isna().all()
    assert reasons(frame) == {"not_reported"}
    assert frame.attrs["provenance"]["complete"]
    silent = {name: values.copy() for name, values in market.windows["EUR/USD", "1h"].columns.items()}
    silent["volume"][:] = np.nan
    market.publish("USD/CHF", "1h", replace(market.windows["EUR/USD", "1h"], columns=silent))
    latest = await make_client().get_latest("USD/CHF", ["close", "volume"])
    assert (reasons(latest), latest.attrs["provenance"]["complete"]) == ({"not_reported"}, True)


@given(st.sets(st.integers(0, 119), max_size=40))
@settings(max_examples=60, deadline=None)
def test_gaps_name_exactly_the_bars_that_are_not_there(out: set[int]) -> None:
    session, timeframe = SYMBOLS["EUR/USD"].session, TIMEFRAMES["1h"]
    request = range_request("EUR/USD", "2024-03-06", "2024-03-12", "1h", ["close"])
    expected = expected_opens(session, timeframe, request.start.value // 1000, request.end.value // 1000)
    present = np.delete(expected, sorted(n for n in out if n < len(expected)))
    values = RangeValues(opens_us=present, columns={"close": np.ones(len(present))})
    named: list[int] = []
    for entry in find_missing(request, values, NOW_US):
        assert entry["reason"] == "gap"
        run = expected[(expected >= from_iso(entry["start"])) & (expected <= from_iso(entry["end"]))]
        assert len(run) == entry["bars"]
        named += run.tolist()
    assert sorted(named) == sorted(set(expected.tolist()) - set(present.tolist()))


# ---------------------------------------------------------------------------------------------- what was known when


async def test_as_known_at_never_sees_a_later_revision(make_client: Make, tables: DeltaTables, own_repo: Repo) -> None:
    start, end = datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 5, tzinfo=UTC)
    bars = make_bars("EUR/USD", "1h", start, end)
    for days, close in ((10, 1.0), (20, 2.0), (30, 3.0)):
        store_bars(bars.assign(close=close), "EUR/USD", "1h", tables, start + timedelta(days=days))
        rows = bars[["open_time"]].assign(rsi_14=close)
        store_indicators(rows, "EUR/USD", "1h", tables, start + timedelta(days=days))
    client = make_client(repo=own_repo)

    async def known(moment: datetime | None) -> tuple[set[float], set[float]]:
        options: dict[str, Any] = {"as_known_at": moment}
        ohlcv = await client.get_ohlcv("EUR/USD", "2024-03-04", "2024-03-04", **options)
        ind = await client.get_indicators(
            "EUR/USD", "2024-03-04", "2024-03-04", indicators=["rsi_14", "close"], **options
        )
        assert set(ind["close"]) == set(ohlcv["close"])
        return set(ohlcv["close"]), set(ind["rsi_14"])

    microsecond = timedelta(microseconds=1)
    assert await known(start + timedelta(days=10) - microsecond) == (set(), set())
    assert await known(start + timedelta(days=10)) == ({1.0}, {1.0})
    assert await known(start + timedelta(days=20) - microsecond) == ({1.0}, {1.0})
    assert await known(start + timedelta(days=20)) == ({2.0}, {2.0})
    assert await known(None) == ({3.0}, {3.0})


async def test_as_known_at_is_never_answered_by_the_window(client: FeatureStoreClient) -> None:
    frame = await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-25", as_known_at="2024-06-26")
    assert (source(frame), len(frame)) == ("offline", 0)  # everything was written at NOW, half a day later


# -------------------------------------------------------------------------------------------------------- how old


async def test_age_is_counted_in_bars_and_a_weekend_does_not_age(client: FeatureStoreClient, clock: Clock) -> None:
    clock.forward((datetime(2024, 6, 28, 21, 30, tzinfo=UTC) - NOW).total_seconds())  # Friday after the close
    friday = (await client.get_latest("EUR/USD", ["close"])).attrs["provenance"]["age_bars"]
    clock.forward(40 * 3600)
    sunday = (await client.get_latest("EUR/USD", ["close"])).attrs["provenance"]["age_bars"]
    assert friday == sunday == 57


async def test_the_oldest_of_several_timeframes_counts_in_its_own_bars(
    client: FeatureStoreClient, market: Market, clock: Clock
) -> None:
    """Fault: the 4h bars have not been published for days, while the hours are fresh."""
    clock.forward(86_400)
    window = market.windows["EUR/USD", "1h"]
    columns = {name: values.copy() for name, values in window.columns.items()}
    columns["open_time"] += 86_400
    market.publish("EUR/USD", "1h", replace(window, event_us=window.event_us + 86_400_000_000, columns=columns))
    client._pipeline._cache = None
    alone = await client.get_latest("EUR/USD", ["close"])
    assert alone["age_bars"].iloc[0] == 0
    mixed = await client.get_latest("EUR/USD", ["close", "4h:close"])
    assert mixed["age_bars"].iloc[0] == mixed.attrs["provenance"]["age_bars"] == 6  # a day of 4h bars
    other = await client.get_latest("EUR/USD", ["4h:close"])
    assert other["age_bars"].iloc[0] == 6


async def test_a_cached_range_has_its_age_as_of_now(make_client: Make, clock: Clock) -> None:
    client = make_client()
    await hearing(client)
    before = await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-25")
    clock.forward(600)
    again = await client.get_ohlcv("EUR/USD", "2024-06-25", "2024-06-25")
    assert source(again) == "cache"
    assert again.attrs["provenance"]["age_bars"] == before.attrs["provenance"]["age_bars"] == 12
    assert again.attrs["provenance"]["read_at"] == before.attrs["provenance"]["read_at"]


def test_beyond_the_end_of_an_exchanges_calendar_a_range_says_that_gaps_cannot_be_seen() -> None:
    """Some calendars are published year by year; after the end no bar is expected, so none would be missed."""
    shanghai = Session(name="shanghai", kind="exchange", timezone="Asia/Shanghai", day_start="00:00", calendar="XSHG")
    end_us = calendar_end(shanghai)
    assert end_us is not None
    asked = range_request("EUR/USD", pd.Timestamp(end_us - DAY_US, unit="us"), pd.Timestamp(end_us, unit="us"), "1d")
    asked = replace(asked, symbol=replace(asked.symbol, session=shanghai))
    values = RangeValues(opens_us=np.empty(0, np.int64), columns={})

    def unknown(now_us: int) -> list[dict[str, Any]]:
        return [entry for entry in find_missing(asked, values, now_us) if entry["reason"] == "calendar_ends"]

    assert unknown(end_us) == []  # the last known day; the one after it has not closed
    entry = {"symbol": "EUR/USD", "reason": "calendar_ends", "start": iso(end_us), "end": iso(end_us)}
    assert unknown(end_us + 2 * DAY_US) == [entry]
    assert not is_complete([entry])
    assert calendar_end(SYMBOLS["EUR/USD"].session) is None


# -------------------------------------------------------------------------------------------------- how long it lives


def record(**fields: Any) -> Provenance:
    base = {"source": "online", "origin": "online", "read_at": iso(NOW_US), "as_of": iso(NOW_US), "age_bars": 0}
    return Provenance(**{**base, "complete": True, **fields})


def test_a_lookup_lives_to_the_next_close_of_any_of_its_timeframes() -> None:
    mixed = latest_request("EUR/USD", ["close", "15m:close"], "4h")
    session = SYMBOLS["EUR/USD"].session
    nearest = min(next_close(session, TIMEFRAMES[tf], NOW_US) for tf in ("15m", "4h"))
    assert lifetime_s(mixed, record(), NOW_US, NOW_US, is_followed=True) == (nearest - NOW_US) / 1e6 == 900


def test_a_bar_that_closed_while_the_answer_was_on_its_way_ends_it_at_once() -> None:
    """Fault: read just before the close, kept just after it: it must not live for a whole bar."""
    request = latest_request("EUR/USD", ["close"], "1h")
    read_us, kept_us = NOW_US + 1_799_000_000, NOW_US + 1_801_000_000
    assert lifetime_s(request, record(), read_us, kept_us, is_followed=True) < 0.01


def test_a_late_answer_is_asked_again_soon_and_a_dead_one_is_not() -> None:
    request = latest_request("EUR/USD", ["close"], "1h")
    assert lifetime_s(request, record(age_bars=1), NOW_US, NOW_US, is_followed=True) == SETTLE_S
    assert lifetime_s(request, record(age_bars=500), NOW_US, NOW_US, is_followed=True) == 1800


def test_a_closed_range_that_lacks_its_last_bar_is_asked_again() -> None:
    request = range_request("EUR/USD", "2024-03-04", "2024-03-05", "1h")
    whole = record(as_of="2024-03-06T00:00:00Z", age_bars=1000)
    assert lifetime_s(request, whole, NOW_US, NOW_US, is_followed=True) == CLOSED_S
    assert lifetime_s(request, replace(whole, as_of="2024-03-05T23:00:00Z"), NOW_US, NOW_US, is_followed=True) == 1800


def test_a_publish_names_the_beginnings_of_all_keys_that_it_touches() -> None:
    assert prefixes([("EUR/USD", "1h"), ("EUR/USD", "4h")]) == {"*|", "EUR/USD|*|", "EUR/USD|1h|", "EUR/USD|4h|"}


# ---------------------------------------------------------------------------------------------------- the record


def test_a_provenance_is_the_record_of_a_frame() -> None:
    frame = pd.DataFrame()
    frame.attrs["provenance"] = record(missing=({"symbol": "EUR/USD", "reason": "gap"},)).as_dict()
    assert provenance(frame) == record(missing=({"symbol": "EUR/USD", "reason": "gap"},))
    json.dumps(frame.attrs)


def test_every_field_survives_being_written_and_what_another_version_wrote_is_read() -> None:
    entry = {"symbol": "EUR/USD"}
    values = {each.name: (entry,) if each.default == () else f"its {each.name}" for each in fields(Provenance)}
    whole = Provenance(**values)  # type: ignore[arg-type]
    assert from_dict(json.loads(json.dumps(whole.as_dict()))) == whole
    by_0_1 = ("source", "origin", "read_at", "as_of", "age_bars", "complete", "missing", "stale")
    later = {each.name: each.default for each in fields(Provenance) if each.name not in by_0_1}
    assert from_dict({name: whole.as_dict()[name] for name in by_0_1}) == replace(whole, **later)
    assert from_dict({**whole.as_dict(), "added_later": "a value"}) == whole


def test_the_documents_list_every_field() -> None:
    root = Path(__file__).resolve().parents[3]
    for page, entry in (("README.md", "| `{}` |"), ("docs/lookups.md", "`{}`")):
        text = (root / page).read_text()
        assert [each.name for each in fields(Provenance) if entry.format(each.name) not in text] == [], page


@pytest.mark.parametrize("attrs", [{}, {"provenance": None}, {"provenance": {}}, {"provenance": {"source": "x"}}])
def test_a_frame_without_one_is_an_error_that_says_so(attrs: dict[str, Any]) -> None:
    frame = pd.DataFrame()
    frame.attrs = attrs
    with pytest.raises(ValueError, match="no provenance"):
        provenance(frame)


@given(st.integers(-(10**15), 4 * 10**15))
def test_moments_survive_being_written(us: int) -> None:
    assert from_iso(iso(us)) == us


async def test_a_symbol_with_bars_and_no_indicators_says_so(client: FeatureStoreClient) -> None:
    frame = await client.get_indicators(MINUTES, "2024-03-04 10:00", "2024-03-04 10:59", "1m", ["rsi_14"])
    assert (len(frame), reasons(frame)) == (0, {"not_stored"})


# ------------------------------------------------------------------------------------------------ what is in doubt


@pytest.fixture
def doubted(market: Market) -> Iterator[None]:
    """A comparison of the stores has failed for the symbol's hours."""
    key = entity_key("EUR/USD", market.repo.project)
    with connect(market.url) as redis:
        redis.hset(key, doubt_key("1h"), "online and recomputed differ in rsi_14")
        yield
        redis.hdel(key, doubt_key("1h"))


DOUBT = {"symbol": "EUR/USD", "timeframe": "1h", "reason": "online and recomputed differ in rsi_14"}


async def test_values_in_doubt_are_served_and_said_to_be(client: FeatureStoreClient, doubted: None) -> None:
    for symbols, features in (("EUR/USD", ["close"]), (PUBLISHED, ["close", "4h:close"])):
        frame = await client.get_latest(symbols, features)
        record = provenance(frame)
        assert not frame["close"].isna().any()
        assert (record.source, record.stale, record.doubt) == ("online", True, (DOUBT,))
    window = await client.get_indicators("EUR/USD", "2024-06-24", "2024-06-26", "1h", ["rsi_14"])
    assert (source(window), provenance(window).stale, provenance(window).doubt) == ("online", True, (DOUBT,))
    json.dumps(window.attrs)


async def test_a_doubt_is_of_its_symbol_and_timeframe_alone(client: FeatureStoreClient, doubted: None) -> None:
    for call in (
        client.get_latest("GBP/USD", ["close"]),
        client.get_latest("EUR/USD", ["close"], timeframe="4h"),
        client.get_ohlcv("EUR/USD", "2024-06-24", "2024-06-26", "4h"),
        client.get_ohlcv("EUR/USD", "2024-02-05", "2024-02-06"),  # the offline store's own
    ):
        record = provenance(await call)
        assert (record.stale, record.doubt) == (False, ())


async def test_a_doubt_is_repeated_only_for_a_moment(
    make_client: Make, market: Market, clock: Clock, doubted: None
) -> None:
    client = make_client()
    await hearing(client)
    assert provenance(await client.get_latest("EUR/USD", ["open"])).stale
    assert provenance(await client.get_latest("EUR/USD", ["open"])).source == "cache"
    with connect(market.url) as redis:
        redis.hdel(entity_key("EUR/USD", market.repo.project), doubt_key("1h"))
    clock.forward(DOUBTED_S)
    assert not provenance(await client.get_latest("EUR/USD", ["open"])).stale
