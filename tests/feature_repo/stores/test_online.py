"""Feast and the codec on one store: what either writes, the other reads, to the bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureService, FeatureStore, RepoConfig
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_repo import catalog, definitions
from feature_repo.repo import Repo
from feature_repo.stores.online import BarRedisOnlineStore
from feature_repo.stores.redis.codec import (
    decode_array,
    decode_doubles,
    decode_timestamp,
    encode_array,
    encode_double,
    entity_key,
    field_key,
    read_revision,
    revision_key,
    timestamp_key,
)
from feature_repo.stores.redis.publish import ViewRow, publish

CLOSE = datetime(2024, 3, 1, 12, tzinfo=UTC)
CLOSE_US = 1_709_294_400_000_000
SPECIAL = np.array([0x7FF8DEADBEEF0001, 0xFFF8000000000000, 1 << 63, 0x7FF0000000000000, 1], np.uint64).view(np.float64)
Stored = dict[tuple[str, str], Any]


def bits(values: Any) -> list[int]:
    return np.asarray(values, np.float64).view(np.uint64).tolist()


def publish_all(
    redis: Any, project: str, symbol: str, timeframes: Sequence[str] = ("1h",), n: int = 7, seed: int = 0
) -> Stored:
    """Publishes all views of a symbol, odd values among them; returns (view, field) -> what was published."""
    random, stored, rows = np.random.default_rng(seed), Stored(), []
    for timeframe in timeframes:
        for kind in catalog.VIEW_KINDS:
            view, values = catalog.view(kind, timeframe), {}
            for k, name in enumerate(view.fields):
                if view.is_window:
                    value: Any = random.standard_normal(n)
                    value[: min(n, 5)] = SPECIAL[: min(n, 5)]
                    values[field_key(view.name, name)] = encode_array(value)
                else:
                    value = float(SPECIAL[k]) if k < len(SPECIAL) else random.standard_normal()
                    values[field_key(view.name, name)] = encode_double(value)
                stored[view.name, name] = value
            rows.append(ViewRow(view=view.name, event_us=CLOSE_US, created_us=CLOSE_US + 1, values=values))
    publish(redis, project, symbol, rows)
    return stored


def refs(*views: str) -> list[str]:
    return [f"{view}:{name}" for view in views for name in catalog.VIEWS[view].fields]


def cells_of(response: Any) -> dict[str, list[tuple[str, Any, float]]]:
    """Column -> for each row its status, its bits, and the second of its event timestamp."""
    proto, served = response.proto, {}
    for name, vector in zip(proto.metadata.feature_names.val, proto.results, strict=True):
        served[name] = [
            (
                FieldStatus.Name(status),
                bits(value.double_list_val.val if value.HasField("double_list_val") else [value.double_val]),
                stamp.seconds + stamp.nanos / 1e9,
            )
            for value, status, stamp in zip(vector.values, vector.statuses, vector.event_timestamps, strict=True)
            if name != catalog.ENTITY
        ]
    return served


def assert_served(served: dict[str, Any], row: int, stored: Stored, views: Sequence[str]) -> None:
    for view in views:
        for name in catalog.VIEWS[view].fields:
            expected = ("PRESENT", bits(np.atleast_1d(stored[view, name])), CLOSE.timestamp())
            assert served[f"{view}__{name}"][row] == expected


# ---------------------------------------------------------------------------------- Feast reads what we publish

TWO_TIMEFRAMES = ("ohlcv_1h", "indicators_1h", "window_1h", "ohlcv_4h", "indicators_4h", "window_4h")


@pytest.fixture(scope="module")
def mixed(feature_store: FeatureStore) -> Iterator[FeatureService]:
    """A service of several timeframes, as a strategy would define one."""
    service = FeatureService(name="mixed", features=[definitions.views[view] for view in TWO_TIMEFRAMES])
    feature_store.apply(service)
    feature_store.refresh_registry()
    yield service
    feature_store.delete_feature_service("mixed")


@pytest.mark.parametrize("n", [0, 1, catalog.WINDOW_BARS])
def test_feast_reads_what_we_publish(
    feature_store: FeatureStore, redis: Any, repo: Repo, mixed: FeatureService, n: int
) -> None:
    symbols = ["EUR/USD", "GBP/USD"]
    stored = [publish_all(redis, repo.project, s, ("1h", "4h"), n, seed=i) for i, s in enumerate(symbols)]
    rows = [{"symbol": s} for s in [*symbols, "EUR/USD"]]
    served = cells_of(feature_store.get_online_features(mixed, rows, full_feature_names=True))
    for row, expected in enumerate([*stored, stored[0]]):
        assert_served(served, row, expected, TWO_TIMEFRAMES)


async def test_feast_reads_it_asynchronously_as_well(
    feature_store: FeatureStore, redis: Any, repo: Repo, mixed: FeatureService
) -> None:
    stored = publish_all(redis, repo.project, "EUR/USD", ("1h", "4h"))
    response = await feature_store.get_online_features_async(mixed, [{"symbol": "EUR/USD"}], full_feature_names=True)
    await feature_store.close()
    assert_served(cells_of(response), 0, stored, TWO_TIMEFRAMES)


@pytest.mark.parametrize("service", ["latest_1h", "window_service_1h"])
def test_the_services_of_the_catalog_are_served(
    feature_store: FeatureStore, redis: Any, repo: Repo, service: str
) -> None:
    stored = publish_all(redis, repo.project, "EUR/USD")
    known = feature_store.get_feature_service(service)
    served = cells_of(feature_store.get_online_features(known, [{"symbol": "EUR/USD"}], full_feature_names=True))
    assert_served(served, 0, stored, catalog.SERVICES[service])


def test_stock_feast_reads_the_same_bytes_identically(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    path = str(repo.redis_url).removeprefix("unix://")
    online = {"type": "redis", "connection_string": f"localhost:0,unix_socket_path={path}"}
    stock = FeatureStore(config=RepoConfig(**{**repo.raw, "online_store": online}))
    for symbol in ("EUR/USD", "GBP/USD"):
        publish_all(redis, repo.project, symbol, ("1h", "4h"), seed=len(symbol))
    entities = [{"symbol": "GBP/USD"}, {"symbol": "EUR/USD"}]
    ours, theirs = (s.get_online_features(refs(*TWO_TIMEFRAMES), entities, True).proto for s in (feature_store, stock))
    assert type(stock._get_provider().online_store).__name__ == "RedisOnlineStore"
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    stock._get_provider().online_store._client.close()


# --------------------------------------------------------------------------------------- absence is reported


def test_a_missing_symbol_is_not_found_and_not_of_1970(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    publish_all(redis, repo.project, "EUR/USD")
    response = feature_store.get_online_features(
        refs("ohlcv_1h", "window_1h"), [{"symbol": "GBP/USD"}, {"symbol": "EUR/USD"}], full_feature_names=True
    )
    for missing, there in (v for name, v in cells_of(response).items() if name != catalog.ENTITY):
        assert missing == ("NOT_FOUND", [0], 0.0)
        assert there[0] == "PRESENT"
    assert response.to_dict()["ohlcv_1h__close"][0] is None


async def test_a_missing_symbol_is_not_found_asynchronously(feature_store: FeatureStore, redis: Any) -> None:
    response = await feature_store.get_online_features_async(["ohlcv_1h:close"], [{"symbol": "GBP/USD"}])
    await feature_store.close()
    assert cells_of(response)["close"] == [("NOT_FOUND", [0], 0.0)]


def test_a_timeframe_that_was_never_published_is_not_found(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    publish_all(redis, repo.project, "EUR/USD", ["1h"])
    served = cells_of(
        feature_store.get_online_features(
            ["ohlcv_1h:close", "ohlcv_4h:close"], [{"symbol": "EUR/USD"}], full_feature_names=True
        )
    )
    assert served["ohlcv_1h__close"][0][0] == "PRESENT"
    assert served["ohlcv_4h__close"][0][0] == "NOT_FOUND"


def test_a_field_that_the_last_publish_did_not_know_is_not_found(
    feature_store: FeatureStore, redis: Any, repo: Repo
) -> None:
    publish_all(redis, repo.project, "EUR/USD")
    redis.hdel(entity_key("EUR/USD", repo.project), field_key("indicators_1h", "sma_50"))
    served = cells_of(
        feature_store.get_online_features(["indicators_1h:sma_50", "indicators_1h:sma_200"], [{"symbol": "EUR/USD"}])
    )
    assert served["sma_50"][0][0] == "NOT_FOUND"
    assert served["sma_200"][0][0] == "PRESENT"


# --------------------------------------------------------------------------------- we read what Feast writes


def frame(value: float, event: datetime, created: datetime, symbol: str = "EUR/USD") -> pd.DataFrame:
    columns = {name: [value + k] for k, name in enumerate(catalog.BAR_FIELDS)}
    return pd.DataFrame({"symbol": [symbol], "event_timestamp": [event], "created": [created], **columns})


def stored_bar(redis: Any, repo: Repo, symbol: str = "EUR/USD") -> tuple[int, tuple[int, int], list[float]]:
    fields = [field_key("ohlcv_1h", name) for name in catalog.BAR_FIELDS]
    stamp, newest, *cells = redis.hmget(
        entity_key(symbol, repo.project), [timestamp_key("ohlcv_1h"), revision_key("ohlcv_1h"), *fields]
    )
    return decode_timestamp(stamp), read_revision(newest), decode_doubles(cells)[0].tolist()


def expected(value: float, event: datetime, created: datetime) -> tuple[int, tuple[int, int], list[float]]:
    us = [int(moment.timestamp()) * 1_000_000 + moment.microsecond for moment in (event, created)]
    return us[0], (us[0], us[1]), [value + k for k in range(5)]


@pytest.mark.parametrize(
    ("event_shift_us", "created_shift_us", "is_newer"),
    [(-1, 10, False), (0, 0, False), (0, -1, False), (0, 1, True), (1, -10, True)],
    ids=["older bar", "same revision", "older revision", "newer revision", "newer bar"],
)
@pytest.mark.parametrize("zone", ["aware", "naive"])
def test_a_row_written_through_feast_goes_through_the_same_guard(
    feature_store: FeatureStore,
    redis: Any,
    repo: Repo,
    event_shift_us: int,
    created_shift_us: int,
    is_newer: bool,
    zone: str,
) -> None:
    created = CLOSE + timedelta(seconds=1)
    feature_store.write_to_online_store("ohlcv_1h", frame(1.0, CLOSE, created))
    assert stored_bar(redis, repo) == expected(1.0, CLOSE, created)
    event, later = CLOSE + timedelta(microseconds=event_shift_us), created + timedelta(microseconds=created_shift_us)
    times = [moment.replace(tzinfo=None) if zone == "naive" else moment for moment in (event, later)]
    feature_store.write_to_online_store("ohlcv_1h", frame(2.0, *times))
    assert stored_bar(redis, repo) == (expected(2.0, event, later) if is_newer else expected(1.0, CLOSE, created))


async def test_rows_are_written_asynchronously(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    created = CLOSE + timedelta(seconds=1)
    rows = pd.concat([frame(1.0, CLOSE, created), frame(5.0, CLOSE, created, "GBP/USD")])
    await feature_store.write_to_online_store_async("ohlcv_1h", rows)
    assert stored_bar(redis, repo) == expected(1.0, CLOSE, created)
    assert stored_bar(redis, repo, "GBP/USD") == expected(5.0, CLOSE, created)


def test_a_window_written_through_feast_is_ours_to_the_bit(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    odd = [np.nan, -np.inf, np.inf, -0.0, 5e-324]
    values = np.concatenate([odd, np.random.default_rng(3).standard_normal(catalog.WINDOW_BARS - len(odd))])
    row = {name: [np.roll(values, k)] for k, name in enumerate(catalog.WINDOW_FIELDS)}
    times = {"event_timestamp": [CLOSE], "created": [CLOSE]}
    feature_store.write_to_online_store("window_1h", pd.DataFrame({"symbol": ["EUR/USD"], **times, **row}))
    fields = [field_key("window_1h", name) for name in catalog.WINDOW_FIELDS]
    for k, cell in enumerate(redis.hmget(entity_key("EUR/USD", repo.project), fields)):
        assert cell == encode_array(np.roll(values, k))
        assert bits(decode_array(cell)) == bits(np.roll(values, k))


def test_nothing_to_tell_is_null(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    feature_store.write_to_online_store(
        "ohlcv_1h", frame(1.0, CLOSE, CLOSE).assign(volume=[None]).astype({"volume": float})
    )
    cells = redis.hmget(entity_key("EUR/USD", repo.project), [field_key("ohlcv_1h", "volume"), "no such"])
    assert cells[1] is None
    values, present = decode_doubles(cells)
    assert np.isnan(values).all()
    assert not present.any()
    served = cells_of(feature_store.get_online_features(["ohlcv_1h:volume"], [{"symbol": "EUR/USD"}]))
    assert served["volume"] == [("PRESENT", [0], CLOSE.timestamp())]  # there, and nothing: not the same as not there


# ---------------------------------------------------------------------------------------------------- deleting


def store_of(repo: Repo, project: str) -> tuple[BarRedisOnlineStore, RepoConfig]:
    other = replace(repo, raw={**repo.raw, "project": project})
    return BarRedisOnlineStore(), other.feature_store().config


def test_deleting_a_project_leaves_the_one_whose_name_ends_the_same(redis: Any, repo: Repo) -> None:
    for project in ("prod", "nonprod", "d"):
        for symbol in ("EUR/USD", "*", "prod"):
            publish_all(redis, project, symbol)
    store, config = store_of(repo, "prod")
    store.delete_entity_values(config, [catalog.ENTITY])
    assert redis.dbsize() == 6
    assert not redis.exists(entity_key("EUR/USD", "prod"), entity_key("*", "prod"), entity_key("prod", "prod"))
    store.teardown(store_of(repo, "nonprod")[1], list(definitions.views.values()), [definitions.symbol])
    assert redis.dbsize() == 3
    store._client.close()


def test_deleting_a_view_leaves_the_others(redis: Any, repo: Repo) -> None:
    for project in ("prod", "nonprod"):
        publish_all(redis, project, "EUR/USD")
    before = redis.hgetall(entity_key("EUR/USD", "nonprod"))
    store, config = store_of(repo, "prod")
    store.delete_table(config, definitions.views["indicators_1h"])
    after = redis.hgetall(entity_key("EUR/USD", "prod"))
    deleted = {field_key("indicators_1h", name) for name in catalog.INDICATOR_FIELDS}
    deleted |= {timestamp_key("indicators_1h"), revision_key("indicators_1h")}
    assert set(before) - set(after) == deleted
    assert redis.hgetall(entity_key("EUR/USD", "nonprod")) == before
    for view in ("ohlcv_1h", "window_1h"):
        store.delete_table(config, definitions.views[view])
    assert not redis.exists(entity_key("EUR/USD", "prod"))
    store._client.close()


# -------------------------------------------------------------------------------------------------- event loops


def close_of(feature_store: FeatureStore) -> Any:
    async def read() -> float:
        response = await feature_store.get_online_features_async(["ohlcv_1h:volume"], [{"symbol": "EUR/USD"}])
        return float(response.proto.results[1].values[0].double_val)

    return read()


def test_it_is_read_from_two_event_loops_in_turn(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    stored = publish_all(redis, repo.project, "EUR/USD")
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    for loop in (first, second, first, second):
        assert loop.run_until_complete(close_of(feature_store)) == stored["ohlcv_1h", "volume"]
    for loop in (first, second):
        loop.run_until_complete(feature_store.close())
        loop.close()


def test_event_loops_that_ended_are_forgotten(feature_store: FeatureStore, redis: Any, repo: Repo) -> None:
    publish_all(redis, repo.project, "EUR/USD")
    clients = feature_store._get_provider().online_store._async_clients

    async def read() -> None:
        await close_of(feature_store)
        await clients[asyncio.get_running_loop()].aclose()  # what the loop's end would do, with a warning

    for _ in range(3):
        asyncio.run(read())
        assert len(clients) == 1
    clients.clear()
