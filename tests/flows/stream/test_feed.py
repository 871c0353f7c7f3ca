"""Entries come out as they went in, bit by bit; what is not a bar is recognised; a full stream makes producers wait."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings import Settings
from flows.stream import BackloggedError, Feed, LiveBar
from flows.stream.bar import BadEntryError, as_text, from_fields, from_json, to_fields
from flows.stream.feed import SHARDS, shard_of
from flows.stream.reader import Reader

numbers = st.floats(allow_nan=True, allow_infinity=True)
YEARS_US = 315_532_800 * 10**6, 4_102_444_800 * 10**6 - 1  # 1980 to 2099
START_US = 1_704_711_600_000_000  # 2024-01-08 11:00 UTC


def bar(n: int = 0, symbol: str = "BTC/USD") -> LiveBar:
    return LiveBar(
        symbol=symbol, timeframe="1m", open_us=START_US + n * 60_000_000, open=1.0, high=2.0, low=0.5, close=1.5
    )


def entry(sent: LiveBar, **changes: str) -> dict[bytes, bytes]:
    return {name.encode(): text.encode() for name, text in (to_fields(sent) | changes).items()}


@given(
    values=st.tuples(numbers, numbers, numbers, numbers, numbers),
    open_us=st.integers(315_532_800 * 10**6, 4_102_444_800 * 10**6 - 1),
)
def test_a_bar_keeps_every_bit(values: tuple[float, ...], open_us: int) -> None:
    names = ("open", "high", "low", "close", "volume")
    sent = LiveBar(symbol="EUR/USD", timeframe="1h", open_us=open_us, **dict(zip(names, values, strict=True)))
    read = from_fields(entry(sent))
    assert read.open_us == open_us
    assert repr(read.values) == repr(sent.values)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"symbol": "BTC/XXX"}, "unknown_symbol"),
        ({"timeframe": "2m"}, "unknown_timeframe"),
        ({"open_us": "noon"}, "unreadable"),
        ({"open_us": "1e3"}, "unreadable"),
        ({"open_us": "99999999999999999999"}, "impossible_time"),
        ({"open_us": "0"}, "impossible_time"),  # an unset clock
        ({"open_us": "315532799999999"}, "impossible_time"),  # the end of 1979
        ({"open_us": "1704711600000"}, "impossible_time"),  # milliseconds
        ({"open_us": "1704711600000000000"}, "impossible_time"),  # nanoseconds
        ({"close": "one"}, "unreadable"),
        ({"close": ""}, "unreadable"),
    ],
)
def test_an_entry_that_is_not_a_bar_is_rejected_by_rule(changes: dict[str, str], rule: str) -> None:
    with pytest.raises(BadEntryError) as caught:
        from_fields(entry(bar(), **changes))
    assert caught.value.rule == rule


@given(fields=st.dictionaries(st.binary(max_size=9), st.binary(max_size=9)))
def test_whatever_an_entry_holds_it_is_a_bar_or_bad(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(BadEntryError):
        from_fields(fields)


@given(text=st.text() | st.binary() | st.sampled_from(["[]", "null", "{}", '{"open_time": true}']))
def test_whatever_a_message_says_it_is_a_bar_or_bad(text: str | bytes) -> None:
    with pytest.raises(BadEntryError):
        from_json(text)


@pytest.mark.parametrize("moment", ['"2024-01-08T11:00:00Z"', "1704711600000", '"2024-01-08T12:00:00+01:00"'])
def test_a_message(moment: str) -> None:
    prices = '"open": "1", "high": 2, "low": 0.5, "close": 1.5'
    text = f'{{"symbol": "BTC/USD", "timeframe": "1m", "open_time": {moment}, {prices}}}'
    read = from_json(text)
    assert read is not None
    assert (read.open_us, read.values[:4]) == (START_US, (1.0, 2.0, 0.5, 1.5))
    assert math.isnan(read.volume)


def test_a_message_without_an_offset_is_bad() -> None:
    text = '{"symbol": "B", "timeframe": "1m", "open_time": "1970-01-01", "open": 1, "high": 1, "low": 1, "close": 1}'
    with pytest.raises(BadEntryError, match="offset"):
        from_json(text)


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        ("1704711600", "a count of seconds; milliseconds since 1970 are expected"),
        ("1704711600000000", "a count of microseconds; milliseconds"),
        ("1704711600000000000", "a count of nanoseconds; milliseconds"),
        ("0", "outside the years 1980 to 2099"),
        ("-60000", "outside the years 1980 to 2099"),
        ('"1970-01-02T00:00:00Z"', "1970-01-02T00:00:00.00:00, outside the years 1980 to 2099"),
        ('"1979-12-31T23:59:00Z"', "outside the years 1980 to 2099"),
    ],
)
def test_a_time_in_another_unit_or_before_1980_is_refused_by_name(moment: str, message: str) -> None:
    text = f'{{"symbol": "B", "timeframe": "1m", "open_time": {moment}, "open": 1, "high": 1, "low": 1, "close": 1}}'
    with pytest.raises(BadEntryError, match=message) as caught:
        from_json(text)
    assert caught.value.rule == "impossible_time"


@pytest.mark.parametrize(
    ("flag", "is_bar"),
    [
        ('"complete": false', False), ('"is_closed": 0', False), ('"isFinal": "False"', False),
        ('"confirm": "0"', False),
        ('"partial": true', False), ('"incomplete": 1', False),
        ('"complete": true', True), ('"confirm": "1"', True), ('"partial": false', True), ('"complete": null', True),
        ('"closed": "2024-01-08T11:01:00Z"', True),  # a time, not a flag
    ],
)  # fmt: skip
def test_a_message_that_says_its_bar_is_not_finished_has_none(flag: str, is_bar: bool) -> None:
    prices = '"open": 1, "high": 1, "low": 1, "close": 1'
    text = f'{{"symbol": "B", "timeframe": "1m", "open_time": 1704711600000, {prices}, {flag}}}'
    assert (from_json(text) is not None) == is_bar


def test_what_a_source_rejected_keeps_its_reason(redis: Any, settings: Settings) -> None:
    feed = Feed(redis, settings.repo().project)
    feed.put_unreadable('{"open_time": 1704711600}', BadEntryError("impossible_time", "a count of seconds"))
    reader = Reader(redis, settings.repo().project, range(SHARDS), consumer="one")
    reader.begin()
    (sent,) = reader.read(count=9, block_ms=None)
    with pytest.raises(BadEntryError, match="a count of seconds") as caught:
        from_fields(sent.fields)
    assert caught.value.rule == "impossible_time"
    assert "1704711600" in as_text(sent.fields)


def test_a_symbol_s_shard_never_changes() -> None:
    assert [shard_of(name) for name in ("EUR/USD", "BTC/USD", "GOOG")] == [2, 11, 12]


# --------------------------------------------------------------------------------------------- back-pressure


class Clock:
    """Time that passes when the producer sleeps; the consumer works meanwhile."""

    def __init__(self, work: Any = lambda: None) -> None:
        self.now, self.slept, self._work = 0.0, 0, work

    def sleep(self, seconds: float) -> None:
        self.now, self.slept = self.now + seconds, self.slept + 1
        self._work()


def test_a_producer_waits_for_a_slow_consumer_and_nothing_is_lost(redis: Any, settings: Settings) -> None:
    project, minutes = settings.repo().project, []
    reader = Reader(redis, project, range(SHARDS), consumer="slow")
    reader.begin()
    longest = [0]

    def work() -> None:
        longest[0] = max(longest[0], feed.backlog())
        entries = reader.read(count=7, block_ms=None)
        minutes.extend((from_fields(e.fields).open_us - START_US) // 60_000_000 for e in entries)
        reader.acknowledge(entries)

    clock = Clock(work)
    feed = Feed(redis, project, limit=20, sleep=clock.sleep, clock=lambda: clock.now)
    feed.put([bar(n) for n in range(200)])
    for n in range(200, 230):  # one at a time too
        feed.put([bar(n)])
    assert clock.slept > 20
    assert longest[0] <= 20
    while feed.backlog():
        work()
    assert minutes == [*range(230)]


def test_a_producer_without_a_consumer_fails_and_says_so(redis: Any, settings: Settings) -> None:
    clock = Clock()
    feed = Feed(redis, settings.repo().project, limit=5, timeout_s=3, sleep=clock.sleep, clock=lambda: clock.now)
    with pytest.raises(BackloggedError, match="fstore stream"):
        feed.put([bar(n) for n in range(9)])
    assert 3 < clock.now < 4
    assert feed.backlog() == 5


def test_an_owner_takes_over_what_others_left_in_order(redis: Any, settings: Settings) -> None:
    project = settings.repo().project
    feed = Feed(redis, project)
    feed.put([bar(n) for n in range(6)])
    for consumer in ("first", "second"):
        reader = Reader(redis, project, range(SHARDS), consumer=consumer)
        reader.begin()
        assert len(reader.read(count=2, block_ms=None)) == 2
    third = Reader(redis, project, range(SHARDS), consumer="third")
    entries = third.begin()
    assert [(from_fields(e.fields).open_us - START_US) // 60_000_000 for e in entries] == [0, 1, 2, 3]
    third.acknowledge(entries)
    rest = third.read(count=9, block_ms=None)
    third.acknowledge(rest)
    third.end()
    assert (len(rest), feed.backlog()) == (2, 0)
