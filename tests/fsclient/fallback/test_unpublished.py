"""What is stored and was never published: answered from the stored bars, and never mistaken for what was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import TIMEFRAMES
from feature_repo.repo import Repo
from feature_repo.stores.redis.codec import entity_key
from feature_repo.stores.redis.connection import connect
from flows.runs.publish import publish_window
from fsclient import FeatureCache, FeatureStoreClient, FeatureStoreUnavailable, Provenance, provenance
from fsclient.answers.repeating import ABSENT_S
from tests.fsclient.stack import KNOWN_WITHOUT_DATA, PUBLISHED, Clock, Market, hearing, source, until

Make = Callable[..., FeatureStoreClient]
EUR, GBP = PUBLISHED
FEATURES = ["close", "rsi_14", "4h:sma_20"]
MODES = ("last_good", "recompute", "fail")


@pytest.fixture(params=["stores", "service"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes clients of the stores, and of a service that reads them."""
    made: Make = request.getfixturevalue("make_client" if request.param == "stores" else "make_remote")
    return made


def delete(market: Market, *symbols: str) -> None:
    """Leaves nothing of these symbols online, as before their first publish; nobody hears of it."""
    with connect(market.url) as redis:
        for symbol in symbols:
            assert redis.delete(entity_key(symbol, market.repo.project))


async def ask(client: FeatureStoreClient, *symbols: str) -> tuple[pd.DataFrame, Provenance]:
    frame = await client.get_latest(symbols, FEATURES)
    return frame, provenance(frame)


def assert_rows(frame: pd.DataFrame, market: Market, *symbols: str) -> None:
    """The rows that are published of these symbols, or would be."""
    for symbol in symbols:
        hours, four_hours = market.windows[symbol, "1h"], market.windows[symbol, "4h"]
        newest = [hours.columns["close"][-1], hours.columns["rsi_14"][-1], four_hours.columns["sma_20"][-1]]
        np.testing.assert_allclose(frame.loc[symbol, FEATURES].to_numpy(dtype=float), newest, rtol=1e-9)
        assert frame.loc[symbol, "event_timestamp"] == pd.Timestamp(hours.event_us, unit="us", tz="UTC")
        assert frame.loc[symbol, "age_bars"] == 0


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_never_published_is_computed_from_stored_bars(mode: str, make: Make, market: Market) -> None:
    delete(market, *PUBLISHED)
    frame, record = await ask(make(on_unavailable=mode, timeout_s=10.0, use_cache=False), *PUBLISHED)
    assert_rows(frame, market, *PUBLISHED)
    assert (record.source, record.origin, record.recomputed) == ("recomputed", "recomputed", PUBLISHED)
    assert (record.complete, record.missing, record.age_bars, record.stale) == (True, (), 0, False)


@pytest.mark.parametrize("mode", MODES)
async def test_only_the_rows_of_unpublished_symbols_are_computed(mode: str, make: Make, market: Market) -> None:
    delete(market, GBP)
    market.publish(EUR, "1h", market.corrected(close=1.75))  # which is not in the offline store
    client = make(on_unavailable=mode, timeout_s=10.0, use_cache=False)
    frame, record = await ask(client, GBP, EUR, KNOWN_WITHOUT_DATA)
    assert_rows(frame, market, GBP)
    assert frame.loc[EUR, "close"] == 1.75
    assert frame.loc[KNOWN_WITHOUT_DATA].isna().all()
    assert (record.source, record.recomputed) == ("recomputed", (GBP,))
    assert [(gap["symbol"], gap["reason"]) for gap in record.missing] == [(KNOWN_WITHOUT_DATA, "no_data")] * 3
    assert (record.complete, record.as_of, record.age_bars) == (False, "2024-06-26T12:00:00Z", 0)


async def test_a_symbol_whose_other_timeframe_was_not_published_is_computed_as_a_row(
    make_client: Make, market: Market, repo: Repo
) -> None:
    with connect(market.url) as redis:
        publish_window(redis, "half", EUR, TIMEFRAMES["1h"], market.windows[EUR, "1h"])
    frame, record = await ask(make_client(repo=replace(repo, project="half")), EUR)
    assert_rows(frame, market, EUR)
    assert (record.source, record.recomputed, record.complete) == ("recomputed", (EUR,), True)


async def test_a_row_is_not_exchanged_for_another_that_has_less(
    make_client: Make, market: Market, repo: Repo, tmp_path: Path
) -> None:
    with connect(market.url) as redis:
        publish_window(redis, "half", EUR, TIMEFRAMES["1h"], market.windows[EUR, "1h"])
    client = make_client(repo=replace(repo, project="half", offline=str(tmp_path)))
    frame, record = await ask(client, EUR)
    assert frame.loc[EUR, "close"] == market.windows[EUR, "1h"].columns["close"][-1]
    assert (record.source, record.recomputed) == ("online", ())
    assert [(gap["feature"], gap["reason"]) for gap in record.missing] == [("4h:sma_20", "no_data")]


# -------------------------------------------------------------------------------------------------- what was lost


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside an unpublished symbol"])
@pytest.mark.parametrize("mode", ["last_good", "fail"])
async def test_what_the_client_saw_online_is_lost_and_not_unpublished(
    mode: str, alone: bool, make: Make, market: Market, request: pytest.FixtureRequest
) -> None:
    """Fault: the online store is emptied, and a service starts afresh and has seen nothing of it."""
    symbols = [EUR] if alone else [EUR, KNOWN_WITHOUT_DATA]
    client = make(on_unavailable=mode, timeout_s=10.0, use_cache=False)
    assert source((await ask(client, *symbols))[0]) == "online"
    delete(market, EUR)
    if "service" in request.fixturenames:
        pipeline = request.getfixturevalue("service").lookups._pipeline
        pipeline._seen.clear()
        pipeline._cache.clear()
    if mode == "fail":
        with pytest.raises(FeatureStoreUnavailable, match="lost its data"):
            await ask(client, *symbols)
        return
    frame, record = await ask(client, *symbols)
    assert_rows(frame, market, EUR)
    assert (record.source, record.stale, record.recomputed) == ("last_good", True, ())


async def test_a_lost_symbol_beside_others_is_not_computed(make_client: Make, market: Market) -> None:
    client = make_client(use_cache=False)
    await ask(client, GBP)
    delete(market, GBP)
    frame, record = await ask(client, *PUBLISHED)
    assert_rows(frame, market, EUR)
    assert (record.source, record.recomputed) == ("online", ())
    assert {(gap["symbol"], gap["reason"]) for gap in record.missing} == {(GBP, "no_data")}


async def test_computed_rows_are_no_last_good_answer_of_the_online_store(
    make: Make, market: Market, repo: Repo
) -> None:
    """Or the first would stand in for all later ones, since an empty store's last good answer comes first."""
    delete(market, *PUBLISHED)
    client = make(use_cache=False, timeout_s=10.0)
    for _ in range(2):
        assert (await ask(client, *PUBLISHED))[1].source in ("recomputed", "cache")
    assert not list((repo.home / "spool").glob("*.arrow"))
    market.publish_all()
    await until_published(client)


async def until_published(client: FeatureStoreClient) -> None:
    for _ in range(200):
        _, record = await ask(client, *PUBLISHED)
        if record.origin == "online":
            return
    pytest.fail(f"still {record.source}")


# ------------------------------------------------------------------------------------------------ how it is cached


@pytest.mark.parametrize("symbols", [[GBP], [EUR, GBP]], ids=["alone", "beside a published symbol"])
async def test_a_computed_row_is_repeated_briefly_and_until_it_is_published(
    symbols: list[str], make_client: Make, market: Market, clock: Clock
) -> None:
    delete(market, GBP)
    cache = FeatureCache(clock=clock.monotonic)
    client = make_client(cache=cache)
    await hearing(client)

    async def sources() -> tuple[str, str, tuple[str, ...]]:
        _, record = await ask(client, *symbols)
        return record.source, record.origin, record.recomputed

    assert await sources() == ("recomputed", "recomputed", (GBP,))
    assert await sources() == ("cache", "recomputed", (GBP,))
    clock.forward(ABSENT_S + 0.1)
    assert await sources() == ("recomputed", "recomputed", (GBP,))
    size = cache.get_stats()["size"]
    for timeframe in ("1h", "4h"):
        market.publish(GBP, timeframe)
    await until(lambda: cache.get_stats()["size"] < size, "the publish to be heard")
    assert await sources() == ("online", "online", ())


async def test_what_is_published_is_read_from_the_online_store_alone(
    make_client: Make, market: Market, repo: Repo
) -> None:
    client = make_client(use_cache=False)

    async def recomputed(*_: object) -> object:
        raise AssertionError("stored bars were asked for")

    client._reader.recomputed = recomputed  # type: ignore[method-assign, assignment]
    assert (await ask(client, *PUBLISHED))[1].source == "online"
