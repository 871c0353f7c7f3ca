"""The guarded, atomic write, on a real server."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo import catalog
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
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.publish import ViewRow, channel, publish

VIEWS = [catalog.view(kind, "1h") for kind in catalog.VIEW_KINDS]
PROJECT = "test"


def view_row(view: catalog.View, event: int, created: int, value: float) -> ViewRow:
    cell = encode_array(np.full(3, value)) if view.is_window else encode_double(value)
    values = {field_key(view.name, name): cell for name in view.fields}
    return ViewRow(view=view.name, event_us=event, created_us=created, values=values)


def rows(event: int, created: int, value: float, views: Sequence[catalog.View] = VIEWS) -> list[ViewRow]:
    return [view_row(view, event, created, value) for view in views]


def read(redis: Any, symbol: str, views: Sequence[catalog.View] = VIEWS) -> set[tuple[int, int, float]]:
    """What one HMGET of every field returns: (event, created, value) according to each view and each of its fields."""
    fields = [f for v in views for f in (timestamp_key(v.name), revision_key(v.name))]
    fields += [field_key(v.name, name) for v in views for name in v.fields]
    stored = redis.hmget(entity_key(symbol, PROJECT), fields)
    stamps = {(decode_timestamp(stored[2 * i]), *read_revision(stored[2 * i + 1])) for i in range(len(views))}
    cells = iter(stored[2 * len(views) :])
    values: set[float] = set()
    for view in views:
        mine = [next(cells) for _ in view.fields]
        if view.is_window:
            values.update(*(decode_array(cell).tolist() for cell in mine))
        else:
            values.update(decode_doubles(mine)[0].tolist())
    assert all(event == of_revision for event, of_revision, _ in stamps)
    return {(event, created, value) for event, _, created in stamps for value in values}


# -------------------------------------------------------------------------------------------------- the guard


def test_a_newer_bar_replaces_and_an_older_one_never_does(redis: Any) -> None:
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 9, 1.0)) == (True, True, True)
    assert publish(redis, PROJECT, "EUR/USD", rows(1_000_000, 10, 2.0)) == (False, False, False)
    assert read(redis, "EUR/USD") == {(2_000_000, 9, 1.0)}
    assert publish(redis, PROJECT, "EUR/USD", rows(3_000_000, 1, 3.0)) == (True, True, True)
    assert read(redis, "EUR/USD") == {(3_000_000, 1, 3.0)}


def test_a_newer_revision_of_the_bar_replaces_and_the_same_again_changes_nothing(redis: Any) -> None:
    publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 1.0))
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 2.0)) == (False, False, False)
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 4, 3.0)) == (False, False, False)
    assert read(redis, "EUR/USD") == {(2_000_000, 5, 1.0)}
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 6, 4.0)) == (True, True, True)
    assert read(redis, "EUR/USD") == {(2_000_000, 6, 4.0)}


def test_each_view_is_judged_by_itself(redis: Any) -> None:
    publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 1.0, VIEWS[:1]))
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 1.0)) == (False, True, True)
    assert read(redis, "EUR/USD") == {(2_000_000, 5, 1.0)}


# Instants of very different length, so that an order by text instead of by number would show.
instants = st.sampled_from([0, 1, 9, 10, 999_999, 1_000_000, 1_700_000_000_000_000, 253_402_300_799_000_000])
_symbols = map(str, count())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.tuples(instants, instants), min_size=1, max_size=8))
def test_whatever_the_order_the_newest_revision_of_the_newest_bar_stays(redis: Any, writes: list[Any]) -> None:
    symbol = next(_symbols)
    newest: tuple[int, int] | None = None
    for i, (event, created) in enumerate(writes):
        newer = newest is None or (event, created) > newest
        assert publish(redis, PROJECT, symbol, rows(event, created, float(i), VIEWS[:1])) == (newer,)
        if newer:
            newest, value = (event, created), float(i)
        assert newest is not None
        assert read(redis, symbol, VIEWS[:1]) == {(*newest, value)}


def test_a_server_that_has_forgotten_the_script_is_told_it_again(redis: Any) -> None:
    publish(redis, PROJECT, "EUR/USD", rows(1_000_000, 1, 1.0))
    redis.script_flush()
    assert publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 1, 2.0)) == (True, True, True)


# ---------------------------------------------------------------------------------------------- atomic, racing


def test_a_reader_never_sees_two_bars_mixed(redis: Any, server_url: str) -> None:
    publish(redis, PROJECT, "EUR/USD", rows(1_000_000, 0, 0.0))
    reads: list[set[tuple[int, int, float]]] = []
    done = threading.Event()

    def look() -> None:
        with connect(server_url) as own:
            while not done.is_set():
                reads.append(read(own, "EUR/USD"))

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(1, 201):
        publish(redis, PROJECT, "EUR/USD", rows((i + 1) * 1_000_000, i, float(i)))
    done.set()
    reader.join()
    assert all(len(revisions) == 1 for revisions in reads)
    bars = [next(iter(revisions)) for revisions in reads]
    assert all(event == (created + 1) * 1_000_000 and value == created for event, created, value in bars)
    assert bars == sorted(bars)
    assert len(set(bars)) > 10  # it did look while bars came in


def test_two_writers_racing_end_with_the_newest(redis: Any, server_url: str) -> None:
    writes = [(event * 1_000_000, created) for event in range(1, 41) for created in range(3)]
    start = threading.Barrier(2)

    def write(seed: int) -> None:
        shuffled = random.Random(seed).sample(writes, len(writes))
        with connect(server_url) as own:
            start.wait()
            for event, created in shuffled:
                publish(own, PROJECT, "EUR/USD", rows(event, created, event + created))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(redis, "EUR/USD") == {(40_000_000, 2, 40_000_002.0)}


# -------------------------------------------------------------------------------------------------- the channel


def test_a_publish_is_announced_only_when_something_changed(redis: Any) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(channel(PROJECT))
        publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 1.0))
        publish(redis, PROJECT, "EUR/USD", rows(2_000_000, 5, 1.0))  # the same
        publish(redis, PROJECT, "EUR/USD", rows(1_000_000, 9, 1.0))  # older
        publish(redis, "other", "EUR/USD", rows(9_000_000, 9, 1.0))  # not of this project
        publish(redis, PROJECT, "GBP/USD", rows(1_000_000, 1, 1.0))
        redis.publish(channel(PROJECT), "end")
        messages = []
        while not messages or messages[-1] != b"end":
            message = listener.get_message(timeout=5.0)
            if message:
                messages.append(message["data"])
    views = b"ohlcv_1h indicators_1h window_1h"
    assert messages == [b"EUR/USD\n" + views, b"GBP/USD\n" + views, b"end"]


# ---------------------------------------------------------------------------------------------------- the keys

ODD = [
    "EUR/USD",
    "eur/usd",
    "",
    "\x00",
    "\n",
    "a b",
    "*",
    "?",
    "[a-z]",
    "\\",
    "é",
    "e\u0301",
    "\u0435",
    "€/\U0001f4b6",
    "A" * 300,
]


def test_symbols_with_odd_bytes_stay_in_their_own_key(redis: Any) -> None:
    for i, symbol in enumerate(ODD):
        publish(redis, PROJECT, symbol, rows(1_000_000, 1, float(i), VIEWS[:1]))
    publish(redis, "st", ODD[0] + "te", rows(1_000_000, 1, -1.0, VIEWS[:1]))  # symbol + project read the same
    assert redis.dbsize() == len(ODD) + 1
    for i, symbol in enumerate(ODD):
        assert read(redis, symbol, VIEWS[:1]) == {(1_000_000, 1, float(i))}


@pytest.mark.parametrize("event", [-1, -86_400_000_000])
def test_a_bar_before_1970_is_refused(redis: Any, event: int) -> None:
    with pytest.raises(ValueError, match="1970"):
        publish(redis, PROJECT, "EUR/USD", rows(event, 1, 1.0))
    assert redis.dbsize() == 0
