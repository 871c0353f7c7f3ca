"""Leases between real processes: they race, and one is stopped past its time and wakes too late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flows.ledger import Watermark
from tests.flows.ledger.conftest import OpenLedger

WORKER = """
import json, sys
from flows.ledger import LeaseLost, Ledger, Watermark

def hear():
    return json.loads(sys.stdin.readline())

def say(what):
    print(json.dumps(what), flush=True)

with Ledger(sys.argv[1]) as ledger:
    ledger.ping()
    say("ready")
    with ledger.lease(hear(), owner=sys.argv[2], ttl_s=30) as lease:
        say(lease.symbols)
        hear()
        said = []
        for what in (lease.check, lambda: ledger.advance(lease, [Watermark(
            symbol=lease.symbols[0], timeframe="1h", event_us=2, seen_us=2, recipe="late")])):
            try:
                what()
                said.append("ours")
            except LeaseLost as lost:
                said.append(lost.symbols)
        say(said)
"""


class Worker:
    """A process that leases the symbols it is sent, and reports which it got and, on request, which it still has."""

    def __init__(self, url: str, owner: str) -> None:
        command = [sys.executable, "-W", "error", "-c", WORKER, url, owner]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start_worker(url: str) -> Iterator[Callable[[str], Worker]]:
    workers: list[Worker] = []

    def start(owner: str) -> Worker:
        workers.append(Worker(url, owner))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


def test_processes_that_race_get_each_symbol_once(start_worker: Callable[[str], Worker]) -> None:
    requests = [["A", "B", "C", "D"], ["D", "C", "B", "E"]]
    workers = [start_worker(f"host:{n}") for n in range(2)]
    assert [worker.hear() for worker in workers] == ["ready", "ready"]
    for worker, symbols in zip(workers, requests, strict=True):
        worker.tell(symbols)
    leased = [worker.hear() for worker in workers]
    assert sorted(leased[0] + leased[1]) == ["A", "B", "C", "D", "E"]
    assert all(set(symbols_) <= set(request) for symbols_, request in zip(leased, requests, strict=True))


def test_a_process_stopped_past_its_time_is_refused_when_it_wakes(
    start_worker: Callable[[str], Worker], open_ledger: OpenLedger
) -> None:
    """Fault: SIGSTOP (a paused container, a laptop's lid) for longer than the lease holds."""
    stopped = start_worker("stopped")
    assert stopped.hear() == "ready"
    stopped.tell(["A", "B"])
    assert stopped.hear() == ["A", "B"]
    os.kill(stopped.process.pid, signal.SIGSTOP)
    ledger = open_ledger(lambda: time.time() + 60)  # a clock at which that lease has run out
    successor = ledger.lease(["A"], owner="next")
    assert successor.symbols == ("A",)
    ours = Watermark(symbol="A", timeframe="1h", event_us=1, seen_us=1, recipe="next")
    ledger.advance(successor, [ours])
    os.kill(stopped.process.pid, signal.SIGCONT)
    stopped.tell("wake")
    assert stopped.hear() == [["A"], ["A"]]
    assert stopped.process.wait(30) == 0
    assert ledger.watermarks() == {("A", "1h"): ours}
    successor.check()


def test_the_symbols_of_a_killed_process_are_free_when_its_time_is_up(
    start_worker: Callable[[str], Worker], open_ledger: OpenLedger
) -> None:
    """Fault: kill -9."""
    killed = start_worker("killed")
    assert killed.hear() == "ready"
    killed.tell(["A"])
    assert killed.hear() == ["A"]
    killed.end()
    assert open_ledger().lease(["A"], owner="soon").refused["A"].owner == "killed"
    assert open_ledger(lambda: time.time() + 60).lease(["A"], owner="next").symbols == ("A",)
