"""The connection that all calls of an event loop share, against a real server, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, socket_path, stop_server
from fsclient.reading.connection import RedisConnection, pack
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import until

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
PASSWORD = "unguessable-%40"  # noqa: S105  # of a server that lives as long as a test
LARGE = b"x" * 300_000
GET_ONE, GET_LARGE = pack(b"GET", b"one"), pack(b"GET", b"large")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("server")
    with connect(ensure_server(home)) as redis:
        redis.mset({"one": b"1", "large": LARGE, **{f"key {i}": str(i) for i in range(100)}})
    yield home
    stop_server(home)


@pytest.fixture(scope="module")
def running_proxy(home: Path) -> Iterator[Proxy]:
    with Proxy(str(socket_path(home))) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: Proxy) -> Iterator[Proxy]:
    running_proxy.forward()
    running_proxy.forget()
    yield running_proxy
    running_proxy.forward()


@pytest.fixture
def url(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on an event loop of each kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


class Connected:
    """A connection for the length of a ``with`` block."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        self.connection = RedisConnection(timeout_s=timeout_s)

    async def __aenter__(self) -> RedisConnection:
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


def test_replies_come_in_the_order_of_their_commands(run: Run, url: str) -> None:
    async def main() -> None:
        async with Connected() as connection:
            commands = [pack(b"GET", b"key %d" % i) for i in range(100)]
            assert await connection.ask(url, commands) == [b"%d" % i for i in range(100)]
            assert await connection.ask(url, [pack(b"GET", b"absent")]) == [None]

    run(main())


def test_calls_that_overlap_share_one_connection_and_get_their_own_replies(run: Run, url: str, proxy: Proxy) -> None:
    before = proxy.connections

    async def main() -> None:
        async with Connected() as connection:

            async def ask(i: int) -> list[Any]:
                return await connection.ask(url, [pack(b"GET", b"key %d" % i), GET_LARGE, pack(b"ECHO", b"%d" % i)])

            for _ in range(2):  # while it is being opened, and once it is open
                replies = await asyncio.gather(*(ask(i) for i in range(64)))
                assert replies == [[b"%d" % i, LARGE, b"%d" % i] for i in range(64)]

    run(main())
    assert proxy.connections == before + 1


def test_a_unix_socket_and_a_numbered_database(run: Run, home: Path) -> None:
    async def main() -> None:
        async with Connected() as connection:
            assert await connection.ask(f"unix://{socket_path(home)}", [GET_ONE]) == [b"1"]
        async with Connected() as connection:
            assert await connection.ask(f"unix://{socket_path(home)}?db=3", [GET_ONE]) == [None]

    run(main())


def test_a_cancelled_call_leaves_the_others_their_own_replies(run: Run, url: str, proxy: Proxy) -> None:
    async def main() -> None:
        async with Connected() as connection:
            await connection.ask(url, [GET_ONE])
            proxy.delay(0.05)
            early, cancelled, late = (
                asyncio.ensure_future(connection.ask(url, [pack(b"ECHO", name)])) for name in (b"a", b"b", b"c")
            )
            await asyncio.sleep(0)
            cancelled.cancel()
            assert (await early, await late) == ([b"a"], [b"c"])

    run(main())


def test_cancelling_a_caller_that_waits_for_the_opening_leaves_it_to_the_others(
    run: Run, url: str, proxy: Proxy
) -> None:
    before = proxy.connections

    async def main() -> None:
        async with Connected() as connection:
            first, second = (asyncio.ensure_future(connection.ask(url, [GET_ONE])) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == [b"1"]

    run(main())
    assert proxy.connections == before + 1


def test_after_a_reset_the_next_call_connects_again(run: Run, url: str, proxy: Proxy) -> None:
    """Fault: the server restarts between two calls."""

    async def main() -> None:
        async with Connected() as connection:
            await connection.ask(url, [GET_ONE])
            before = proxy.connections
            proxy.drop()
            stream = connection._stream
            assert stream is not None
            await until(lambda: not stream.is_usable(10.0), "the reset to be noticed")
            assert await connection.ask(url, [GET_ONE]) == [b"1"]
            assert proxy.connections == before + 1

    run(main())


@pytest.mark.parametrize("after_bytes", [0, 5, 100_000])
def test_a_connection_that_dies_amid_an_answer_fails_its_calls_and_is_replaced(
    after_bytes: int, run: Run, url: str, proxy: Proxy
) -> None:
    """Fault: the server ends while its reply is on the way."""

    async def main() -> None:
        async with Connected() as connection:
            await connection.ask(url, [pack(b"PING")])
            proxy.cut(after_bytes + 7)  # which are the reply to PING
            calls = [connection.ask(url, [GET_LARGE, GET_ONE]) for _ in range(3)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RedisConnectionError] * 3
            proxy.forward()
            assert await connection.ask(url, [GET_LARGE, GET_ONE]) == [LARGE, b"1"]

    run(main())


def test_a_server_that_refuses_connections_is_an_error_and_is_asked_again(run: Run, url: str, proxy: Proxy) -> None:
    async def main() -> None:
        async with Connected() as connection:
            proxy.refuse()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await connection.ask(url, [GET_ONE])
            proxy.forward()
            assert await connection.ask(url, [GET_ONE]) == [b"1"]

    run(main())


@pytest.mark.parametrize("credentials", ["", "user:password@"], ids=["open", "authenticating"])
def test_a_connection_that_is_swallowed_while_it_opens_is_given_up_in_time(
    credentials: str, run: Run, url: str, proxy: Proxy
) -> None:
    """Fault: a black hole. Without credentials nothing is sent, so it opens, and is given up by the call after."""

    async def main() -> None:
        async with Connected(timeout_s=0.05) as connection:
            proxy.black_hole()
            before = proxy.connections
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await connection.ask(url.replace("//", f"//{credentials}"), [GET_ONE])
            assert proxy.connections == before + 2

    run(main())


def test_a_silent_connection_is_kept_while_replies_keep_arriving(run: Run, url: str, proxy: Proxy) -> None:
    """A call waits long for a slow server; others that come meanwhile do not cut it off."""

    async def main() -> None:
        async with Connected(timeout_s=5.0) as connection:
            await connection.ask(url, [GET_ONE])
            before = proxy.connections
            proxy.delay(0.2)
            early = asyncio.ensure_future(connection.ask(url, [pack(b"ECHO", b"early")]))
            await until(lambda: proxy.waiting_s > 0.1, "a reply to be on its way")
            assert await connection.ask(url, [GET_ONE]) == [b"1"]
            assert await early == [b"early"]
            assert proxy.connections == before

    run(main())


def test_a_refused_command_is_an_error_of_its_own_call_only(run: Run, url: str) -> None:
    async def main() -> None:
        async with Connected() as connection:
            refused, others = connection.ask(url, [GET_ONE, pack(b"HGET", b"one", b"field"), GET_ONE]), []
            refusals = asyncio.gather(refused, return_exceptions=True)
            others.append(await connection.ask(url, [GET_ONE]))
            ((outcome,), others) = (await refusals, [*others, await connection.ask(url, [GET_ONE])])
            assert isinstance(outcome, ResponseError)
            assert "WRONGTYPE" in str(outcome)
            assert others == [[b"1"], [b"1"]]

    run(main())


@pytest.fixture
def locked(home: Path) -> Iterator[None]:
    """The server asks for a password meanwhile, and has a user who may not read."""
    with connect(ensure_server(home)) as redis:
        redis.config_set("requirepass", PASSWORD)
        redis.acl_setuser("blind", enabled=True, passwords=["+blind"], commands=["+ping"])
        yield
        redis.config_set("requirepass", "")
        redis.acl_deluser("blind")


@pytest.mark.parametrize("credentials", [":wrong@", "nobody:wrong@", "", "blind:blind@"])
def test_refused_credentials_are_an_authentication_error(credentials: str, run: Run, url: str, locked: None) -> None:
    async def main() -> None:
        async with Connected() as connection:
            with pytest.raises(AuthenticationError) as refused:
                await connection.ask(url.replace("//", f"//{credentials}"), [GET_ONE])
            assert PASSWORD not in str(refused.value)

    run(main())


def test_the_right_password_opens(run: Run, url: str, locked: None) -> None:
    async def main() -> None:
        async with Connected() as connection:
            address = url.replace("//", f"//:{PASSWORD.replace('%', '%25')}@") + "/0"
            assert await connection.ask(address, [GET_ONE]) == [b"1"]

    run(main())


class Scripted:
    """A server that answers the first bytes it reads with a reply of the test's."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.ended = asyncio.Event()

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        await self.ended.wait()
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(self.reply)
        with suppress(OSError):
            await reader.read()  # until the client ends the connection
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.ended.set()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-LOADING Valkey is loading the dataset in memory\r\n", BusyLoadingError),
        (b"-NOAUTH Authentication required.\r\n", AuthenticationError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RedisConnectionError),
    ],
    ids=["loading", "no password", "another protocol"],
)
def test_what_a_server_refuses_with_is_the_error_that_redis_py_would_raise(
    reply: bytes, error: type[Exception], run: Run
) -> None:
    async def main() -> None:
        async with Scripted(reply) as url, Connected() as connection:
            with pytest.raises(error):
                await connection.ask(url, [GET_ONE])

    run(main())


def test_a_reply_to_nothing_ends_the_connection(run: Run) -> None:
    """Fault: a proxy that mixes up two connections. The next reply would be another call's."""

    async def main() -> None:
        async with Scripted(b"+one\r\n+two\r\n") as url, Connected() as connection:
            assert await connection.ask(url, [GET_ONE]) == [b"one"]
            assert connection._stream is not None
            assert not connection._stream.is_usable(10.0)

    run(main())


def test_closing_fails_the_calls_that_wait_and_may_be_repeated(run: Run, url: str, proxy: Proxy) -> None:
    async def main() -> None:
        async with Connected() as connection:
            await connection.ask(url, [GET_ONE])
            proxy.delay(5.0)
            waiting = asyncio.ensure_future(connection.ask(url, [GET_ONE]))
            await connection.close()
            with pytest.raises(RedisConnectionError, match="closed"):
                await waiting
            await connection.close()

    run(main())


def test_closing_while_it_opens_fails_the_calls_that_wait_for_it(run: Run, url: str, proxy: Proxy) -> None:
    async def main() -> None:
        proxy.black_hole()
        async with Connected() as connection:
            waiting = asyncio.ensure_future(connection.ask(url.replace("//", "//:password@"), [GET_ONE]))
            await until(lambda: proxy.heard(b"AUTH") == 1, "the connection to be opening")
            await connection.close()
            with pytest.raises(RedisConnectionError, match="closed"):
                await waiting

    run(main())
