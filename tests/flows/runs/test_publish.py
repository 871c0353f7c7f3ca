"""What goes online: three views of one bar, in one write, as Feast would read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from feature_repo.catalog import TIMEFRAMES, WINDOW_FIELDS, WINDOW_TIME, view
from feature_repo.stores.redis.codec import doubt_key, entity_key, field_key, revision_key, timestamp_key
from feature_repo.stores.window import Window
from flows.runs.publish import lost_views, publish_window, view_rows
from flows.settings import Settings

HOUR = TIMEFRAMES["1h"]
EURUSD = ("EUR/USD", "1h")
CLOSE_US = 1_704_711_600_000_000  # 2024-01-08 11:00 UTC


def window(n: int = 4, *, event_us: int = CLOSE_US, created_us: int = CLOSE_US, value: float = 0.0) -> Window:
    columns = {name: value + np.arange(n) + k / 1000 for k, name in enumerate(WINDOW_FIELDS)}
    columns["sma_200"] = np.full(n, np.nan)
    columns[WINDOW_TIME] = event_us / 1e6 - 3600.0 * np.arange(n, 0, -1)
    return Window(event_us=event_us, created_us=created_us, columns=columns)


@pytest.fixture
def offer(redis: Any, settings: Settings) -> Callable[[Window], bool]:
    return lambda offered: publish_window(redis, settings.repo().project, "EUR/USD", HOUR, offered)


def test_the_scalars_are_the_windows_last_values(
    offer: Callable[[Window], bool], read_online: Callable[..., Any]
) -> None:
    offered = window()
    assert offer(offered)
    published = read_online()
    assert len(set(published.closes)) == 1
    assert published.closes[0].timestamp() * 1e6 == CLOSE_US
    for name in WINDOW_FIELDS:
        np.testing.assert_array_equal(published.window[name], offered.columns[name])
        if name != WINDOW_TIME:
            np.testing.assert_array_equal(published.scalars[name], offered.columns[name][-1])  # a NaN of warm-up too


@pytest.mark.parametrize(
    ("event_us", "created_us", "is_newer"),
    [
        (CLOSE_US, CLOSE_US, False),  # the same again
        (CLOSE_US, CLOSE_US + 1, True),  # a correction of the same bar
        (CLOSE_US, CLOSE_US - 1, False),
        (CLOSE_US - 3_600_000_000, CLOSE_US + 1, False),  # an older bar, however late it was written
        (CLOSE_US + 3_600_000_000, CLOSE_US - 1, True),
    ],
)
def test_what_is_held_gives_way_to_what_is_newer(
    offer: Callable[[Window], bool], read_online: Callable[..., Any], event_us: int, created_us: int, is_newer: bool
) -> None:
    offer(window())
    assert offer(window(event_us=event_us, created_us=created_us, value=7.0)) is is_newer
    assert (read_online().scalars["close"] >= 7.0) is is_newer


@pytest.mark.parametrize("view_kind", ["ohlcv", "indicators", "window"])
@pytest.mark.parametrize("part", ["a field", "the timestamp", "the revision"])
def test_a_view_that_lost_some_of_itself_is_lost_and_is_offered_again_with_success(
    offer: Callable[[Window], bool], redis: Any, settings: Settings, view_kind: str, part: str
) -> None:
    project, offered = settings.repo().project, window()
    offer(offered)
    key = entity_key("EUR/USD", project)
    before = redis.hgetall(key)
    assert lost_views(redis, project, {EURUSD: CLOSE_US}) == []
    spec = view(view_kind, "1h")
    names = {"a field": field_key(spec.name, spec.fields[-1]), "the timestamp": timestamp_key(spec.name)}
    redis.hdel(key, names.get(part, revision_key(spec.name)))
    redis.hset(key, doubt_key("1h"), "fields of others are no stand-in for one's own")
    redis.hset(key, "another", "field")
    never = ("EUR/USD", "4h"), ("GBP/USD", "1h")
    assert lost_views(redis, project, dict.fromkeys([EURUSD, *never], CLOSE_US)) == [EURUSD, *never]
    assert offer(offered)
    assert {name: value for name, value in redis.hgetall(key).items() if name in before} == before
    assert not offer(offered)


def test_a_view_older_than_what_was_published_is_lost(
    offer: Callable[[Window], bool], redis: Any, settings: Settings
) -> None:
    offer(window())
    assert lost_views(redis, settings.repo().project, {EURUSD: CLOSE_US + 1}) == [EURUSD]
    assert lost_views(redis, settings.repo().project, {}) == []


def test_a_window_without_bars_is_not_published(offer: Callable[[Window], bool], redis: Any) -> None:
    empty = Window(event_us=CLOSE_US, created_us=CLOSE_US, columns={name: np.empty(0) for name in WINDOW_FIELDS})
    assert not offer(empty)
    assert redis.dbsize() == 0


def test_every_field_of_every_view_is_there() -> None:
    rows = view_rows(HOUR, window())
    assert [len(row.values) for row in rows] == [
        len(view(kind, "1h").fields) for kind in ("ohlcv", "indicators", "window")
    ]


def test_feast_reads_it(offer: Callable[[Window], bool], settings: Settings) -> None:
    from flows.apply import apply_definitions

    offered = window()
    offer(offered)
    store = settings.repo().feature_store()
    apply_definitions(store)
    store.refresh_registry()
    answer = store.get_online_features(
        ["ohlcv_1h:close", "indicators_1h:rsi_14", "window_1h:sma_20"], [{"symbol": "EUR/USD"}]
    ).to_dict()
    assert answer == {
        "symbol": ["EUR/USD"],
        "close": [offered.columns["close"][-1]],
        "rsi_14": [offered.columns["rsi_14"][-1]],
        "sma_20": [offered.columns["sma_20"].tolist()],
    }
