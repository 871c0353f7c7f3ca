from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.isolation import seal
from fsclient.cache.memory import MemoryCache
from tests.fsclient.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> FeatureCache:
    return FeatureCache(max_size=3, default_ttl=100, clock=clock)


def test_what_was_set_is_got(cache: FeatureCache) -> None:
    cache.set("EUR/USD:1h", {"rsi_14": 55.5})
    assert cache.get("EUR/USD:1h") == {"rsi_14": 55.5}
    assert cache.get("GBP/USD:1h") is None
    assert cache.get("GBP/USD:1h", 0) == 0


def test_a_stored_none_is_distinct_from_a_miss(cache: FeatureCache) -> None:
    cache.set("key", None)
    assert cache.get("key", "missing") is None
    assert cache.get("other", "missing") == "missing"


def test_every_entry_ends_at_its_own_time(cache: FeatureCache, clock: Clock) -> None:
    cache.set("short", 1, ttl=10)
    cache.set("default", 2)
    cache.set("for ever", 3, ttl=math.inf)
    clock.now = 9.999
    assert cache.get("short") == 1
    clock.now = 10.0
    assert cache.get("short") is None
    assert cache.get("default") == 2
    clock.now = 100.0
    assert cache.get("default") is None
    clock.now = 1e12
    assert cache.get("for ever") == 3
    assert cache.get_stats()["expirations"] == 2


def test_setting_again_begins_a_new_life(cache: FeatureCache, clock: Clock) -> None:
    cache.set("key", 1, ttl=10)
    clock.now = 9.0
    cache.set("key", 2, ttl=10)
    clock.now = 18.0
    assert cache.get("key") == 2
    cache.set("key", 3, ttl=1)
    clock.now = 19.0
    assert cache.get("key") is None


def test_getting_does_not_prolong_a_life(cache: FeatureCache, clock: Clock) -> None:
    cache.set("key", 1, ttl=10)
    for _ in range(9):
        clock.now += 1
        cache.get("key")
    clock.now += 1
    assert cache.get("key") is None


def test_the_least_recently_used_gives_way(cache: FeatureCache) -> None:
    for key in "abc":
        cache.set(key, key)
    cache.get("a")
    cache.set("d", "d")
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    assert cache.get_stats()["evictions"] == 1


def test_what_has_expired_gives_way_first(cache: FeatureCache, clock: Clock) -> None:
    cache.set("short", 1, ttl=1)
    cache.set("a", 1)
    cache.set("b", 1)
    cache.get("short")
    clock.now = 1.0
    cache.set("c", 1)
    assert [cache.get(key) for key in "abc"] == [1, 1, 1]
    assert (cache.get_stats()["evictions"], cache.get_stats()["expirations"]) == (0, 1)


def test_memory_is_bounded_in_bytes_too(clock: Clock) -> None:
    """Fault: few entries, each a year of minute bars."""
    cache = FeatureCache(max_size=1000, max_bytes=1_000_000, clock=clock)
    year = pd.DataFrame({"close": np.zeros(30_000)})
    for i in range(10):
        cache.set(str(i), year)
    stats = cache.get_stats()
    assert stats["size"] == 4
    assert stats["bytes"] <= 1_000_000
    assert stats["evictions"] == 10 - stats["size"]
    assert cache.get("9") is not None


def test_a_value_too_large_is_not_kept_and_the_one_before_it_is_gone(clock: Clock) -> None:
    cache = FeatureCache(max_bytes=10_000, clock=clock)
    cache.set("key", "old")
    cache.set("key", b"x" * 20_000)
    assert cache.get("key") is None
    assert cache.get_stats()["evictions"] == 1
    assert cache.get_stats()["bytes"] == 0


def test_invalidation_forgets_one_or_a_prefix_or_all(cache: FeatureCache) -> None:
    for key in ("EUR/USD:1h", "EUR/USD:4h", "EUR/GBP:1h"):
        cache.set(key, 1)
    assert cache.invalidate("EUR/USD:1h")
    assert not cache.invalidate("EUR/USD:1h")
    assert cache.get("EUR/USD:1h") is None
    assert cache.invalidate_prefix("EUR/USD") == 1
    assert cache.get("EUR/GBP:1h") == 1
    cache.clear()
    assert cache.get("EUR/GBP:1h") is None
    stats = cache.get_stats()
    assert (stats["invalidations"], stats["size"], stats["bytes"]) == (3, 0, 0)


def test_the_stats_add_up(cache: FeatureCache) -> None:
    assert cache.get_stats()["hit_rate"] == 0.0
    cache.set("a", 1)
    for key in "aaab":
        cache.get(key)
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (3, 1, 0.75)
    assert {"evictions", "expirations", "invalidations", "size", "bytes"} <= stats.keys()


def test_a_frame_belongs_to_its_caller(cache: FeatureCache) -> None:
    frame = pd.DataFrame({"close": [1.0, 2.0]})
    frame.attrs["provenance"] = {"missing": []}
    cache.set("key", frame)
    frame.loc[0, "close"] = -1.0
    copy = cache.get("key")
    copy.loc[1, "close"] = -1.0
    copy.attrs["provenance"]["missing"].append("x")
    assert cache.get("key")["close"].tolist() == [1.0, 2.0]
    assert cache.get("key").attrs == {"provenance": {"missing": []}}


async def test_the_twins_for_event_loops_do_the_same(cache: FeatureCache) -> None:
    await cache.aset("EUR/USD", None, ttl=10)
    assert await cache.aget("EUR/USD", "missing") is None
    assert await cache.ainvalidate("EUR/USD")
    assert await cache.aget("EUR/USD", "missing") == "missing"
    await cache.aset("EUR/USD", 1)
    assert await cache.ainvalidate_prefix("EUR") == 1
    await cache.aset("EUR/USD", 1)
    await cache.aclear()
    assert cache.get_stats()["size"] == 0
    cache.close()


@pytest.mark.parametrize("ttl", [0, -1, math.nan, -math.inf])
def test_an_invalid_time_to_live_is_refused(cache: FeatureCache, ttl: float) -> None:
    cache.set("key", "old")
    with pytest.raises(ValueError, match="ttl must be more than 0 seconds"):
        cache.set("key", "new", ttl=ttl)
    assert cache.get("key") == "old"
    with pytest.raises(ValueError, match="default_ttl must be more than 0 seconds"):
        FeatureCache(default_ttl=ttl)


@pytest.mark.parametrize("key", [1, None, b"key", ("a",), ["a"]])
def test_a_key_that_is_no_string_is_refused(cache: FeatureCache, key: Any) -> None:
    with pytest.raises(TypeError):
        cache.get(key)
    with pytest.raises(TypeError, match="cache keys are strings"):
        cache.set(key, 1)


@pytest.mark.parametrize("limits", [{"max_size": 0}, {"max_bytes": 0}])
def test_a_limit_that_leaves_no_room_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        FeatureCache(**limits)


def test_threads_may_share_it() -> None:
    cache = FeatureCache(max_size=20)
    failed: list[Exception] = []

    def worker(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for step in range(1_000):
                key = f"{random.integers(40)}"
                value = cache.get(key)
                assert value is None or value == [key]
                cache.set(key, [key], ttl=float(random.random()) + 1e-6)
                if step % 50 == 0:
                    cache.invalidate_prefix(key)
                    cache.get_stats()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert cache.get_stats()["size"] <= 20
    assert cache.get_stats()["hits"] + cache.get_stats()["misses"] == 4_000


keys = st.sampled_from(["a", "aa", "ab", "b", "ba"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(1, 9)),
        st.tuples(st.just("get"), keys, st.just(0)),
        st.tuples(st.just("invalidate"), keys, st.just(0)),
        st.tuples(st.just("invalidate_prefix"), keys, st.just(0)),
        st.tuples(st.just("pass"), keys, st.integers(1, 5)),
    ),
    max_size=60,
)


@given(steps)
def test_it_is_a_dict_that_forgets(history: list[tuple[str, str, int]]) -> None:
    """Whatever happens, it holds what a plain dict with the same lives holds, as long as there is room for all."""
    clock = Clock()
    cache = FeatureCache(max_size=5, clock=clock)
    model: dict[str, tuple[int, float]] = {}
    for number, (step, key, amount) in enumerate(history):
        if step == "set":
            cache.set(key, number, ttl=amount)
            model[key] = (number, clock.now + amount)
        elif step == "invalidate":
            assert cache.invalidate(key) == (model.pop(key, None) is not None)
        elif step == "invalidate_prefix":
            dropped = [k for k in model if k.startswith(key)]
            assert cache.invalidate_prefix(key) == len(dropped)
            for k in dropped:
                del model[k]
        elif step == "pass":
            clock.now += amount
            model = {k: v for k, v in model.items() if v[1] > clock.now}
        else:
            assert cache.get(key) == model.get(key, (None,))[0]
        assert cache.get_stats()["size"] == len(model)
    assert cache.get_stats()["evictions"] == 0


def test_a_value_read_elsewhere_before_an_invalidation_is_not_kept_after_it(clock: Clock) -> None:
    memory = MemoryCache(max_size=9, max_bytes=9_999, clock=clock)
    read_at = memory.removals
    memory.remove(("key",))
    memory.put_unless_changed("key", seal("read before"), 10.0, read_at)
    memory.put("other", seal("newer"), 10.0)
    memory.put_unless_changed("other", seal("read before"), 10.0, memory.removals)
    memory.put_unless_changed("third", seal("fresh"), 10.0, memory.removals)
    assert memory.stats()["size"] == 2
    entries = [memory.lookup(key) for key in ("other", "third")]
    assert [sealed and sealed.fresh() for sealed in entries] == ["newer", "fresh"]
