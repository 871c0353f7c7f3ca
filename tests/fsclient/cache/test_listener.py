"""Listening to publishes: when the listener counts as hearing, and how a loss is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from feature_repo.stores.redis.connection import connect, connect_async
from feature_repo.stores.redis.publish import channel
from fsclient.cache import listener as module
from fsclient.cache.listener import PublishListener
from tests.fsclient.outcomes import Stopwatch
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import Market, until


class Recorder:
    """A listener on the market's channel, and what it reported."""

    def __init__(self, listener: PublishListener) -> None:
        self.listener = listener
        self.publishes: list[list[tuple[str, str]]] = []
        self.losses = 0
        self.fails = False

    async def on_publish(self, changed: Iterable[tuple[str, str]]) -> None:
        if self.fails:
            raise RuntimeError("the cache fails")
        self.publishes.append(list(changed))

    async def on_lost(self) -> None:
        self.losses += 1


@pytest_asyncio.fixture
async def recorder(proxy: Proxy, market: Market) -> AsyncIterator[Recorder]:
    client = connect_async(f"redis://127.0.0.1:{proxy.port}", timeout_s=None)

    async def here() -> Any:
        return client

    async def on_publish(changed: Iterable[tuple[str, str]]) -> None:
        await recorder.on_publish(changed)

    async def on_lost() -> None:
        await recorder.on_lost()

    recorder = Recorder(PublishListener(market.repo.project, here, on_publish=on_publish, on_lost=on_lost))
    yield recorder
    await recorder.listener.stop()
    await client.aclose()


async def started(recorder: Recorder) -> None:
    recorder.listener.start()
    await until(lambda: recorder.listener.is_listening, "the listener to hear")


def say(market: Market, message: bytes) -> None:
    with connect(market.url) as redis:
        redis.publish(channel(market.repo.project), message)


async def test_a_publish_is_heard_as_symbol_and_timeframe(recorder: Recorder, market: Market) -> None:
    await started(recorder)
    market.publish("EUR/USD", "4h", market.corrected("EUR/USD", "4h"))
    await until(lambda: recorder.publishes, "the publish to be heard")
    assert recorder.publishes == [[("EUR/USD", "4h")]]


async def test_a_publish_that_changed_nothing_is_not_heard(recorder: Recorder, market: Market) -> None:
    await started(recorder)
    assert not market.publish("EUR/USD", "1h")
    market.publish("GBP/USD", "1h", market.corrected("GBP/USD"))
    await until(lambda: recorder.publishes, "the publish to be heard")
    assert recorder.publishes == [[("GBP/USD", "1h")]]


async def test_it_counts_as_hearing_once_the_server_has_confirmed_and_not_before(
    recorder: Recorder, proxy: Proxy
) -> None:
    """Fault: a slow line. What is published before the server has the subscription is not heard."""
    proxy.delay(0.1)
    recorder.listener.start()
    await until(lambda: proxy.heard(b"SUBSCRIBE"), "the subscription to be sent")
    assert not recorder.listener.is_listening
    assert recorder.losses == 0
    await until(lambda: recorder.listener.is_listening, "the listener to hear")
    assert recorder.losses == 1  # what was cached before this moment goes


async def test_silence_is_no_loss(recorder: Recorder, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_S", 0.2)  # a busy machine answers a ping in that time
    await started(recorder)
    await until(lambda: proxy.heard(b"PING") > 3, "some pings")
    assert recorder.listener.is_listening
    assert recorder.losses == 1
    assert proxy.heard(b"SUBSCRIBE") == 1


async def test_a_line_that_died_silently_is_noticed(
    recorder: Recorder, proxy: Proxy, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: a black hole. The end of the connection is never reported."""
    monkeypatch.setattr(module, "PING_S", 0.2)  # a busy machine answers a ping in that time
    await started(recorder)
    proxy.black_hole()
    with Stopwatch() as watch:
        await until(lambda: not recorder.listener.is_listening, "the loss to be noticed")
    assert watch.taken_s < 1.0
    await until(lambda: recorder.losses == 2, "the loss to be reported")
    proxy.forward()
    await until(lambda: recorder.listener.is_listening, "the listener to hear again")
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: recorder.publishes, "the publish to be heard")


async def test_a_cut_line_is_noticed_at_once_and_heard_again(
    recorder: Recorder, proxy: Proxy, market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    await started(recorder)
    before = recorder.losses
    proxy.drop()
    with Stopwatch() as watch:
        await until(lambda: recorder.losses > before, "the loss to be reported")
    assert watch.taken_s < 1.0
    await until(lambda: recorder.listener.is_listening, "the listener to hear again")
    assert recorder.losses >= before + 2  # at the loss, and again for what was missed until now
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: recorder.publishes, "the publish to be heard")
    assert caplog.text.count("publishes are not heard") == 1


async def test_an_outage_is_logged_once(
    recorder: Recorder, proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECONNECT_S", (0.005,))
    proxy.refuse()
    recorder.listener.start()
    await until(lambda: recorder.losses > 5, "some attempts")
    assert caplog.text.count("publishes are not heard") == 1


@pytest.mark.parametrize("message", [b"", b"\n", b"EUR/USD", b"EUR/USD\nno_such_view", b"EUR/USD\n" + b"x " * 10_000])
async def test_a_message_that_names_no_view_invalidates_nothing(
    message: bytes, recorder: Recorder, market: Market
) -> None:
    await started(recorder)
    say(market, message)
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: recorder.publishes[-1:] == [[("EUR/USD", "1h")]], "the publish to be heard")
    assert recorder.listener.is_listening
    assert recorder.losses == 1


async def test_a_message_that_is_no_text_is_a_loss_and_not_the_end(recorder: Recorder, market: Market) -> None:
    """Fault: something else writes to the channel. What it meant is unknown, so nothing cached can be trusted."""
    await started(recorder)
    say(market, b"\xff\xfe")
    await until(lambda: recorder.losses >= 3, "the loss, and the new beginning")
    await until(lambda: recorder.listener.is_listening, "the listener to hear again")
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: recorder.publishes, "the publish to be heard")


async def test_a_cache_that_fails_to_follow_is_a_loss_and_not_the_end(recorder: Recorder, market: Market) -> None:
    await started(recorder)
    recorder.fails = True
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: recorder.losses >= 3, "the loss, and the new beginning")
    recorder.fails = False
    await until(lambda: recorder.listener.is_listening, "the listener to hear again")
    market.publish("GBP/USD", "1h", market.corrected("GBP/USD"))
    await until(lambda: recorder.publishes, "the publish to be heard")


async def test_stop_ends_the_task_and_the_connection(recorder: Recorder, proxy: Proxy) -> None:
    tasks = asyncio.all_tasks()
    await started(recorder)
    recorder.listener.start()  # does nothing: it listens already
    await recorder.listener.stop()
    await recorder.listener.stop()
    assert asyncio.all_tasks() == tasks
    assert not recorder.listener.is_listening
    await until(lambda: proxy.connections_now == 0, "the connection to end")
