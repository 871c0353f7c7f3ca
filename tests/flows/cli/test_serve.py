"""`fstore serve` as a separate process, and `fstore keys`: what they print and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from feature_repo.stores.redis.embedded import stop_server
from flows.settings import Settings

Run = Callable[..., Any]
FSTORE = Path(sys.executable).parent / "fstore"


class Served:
    """A service, and where it says it is."""

    def __init__(self, home: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [FSTORE, "serve", "--port", "0", *options],
            env={**os.environ, "FSTORE_HOME": str(home), "FSTORE_REDIS_URL": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        errors: IO[str] = self.process.stderr  # type: ignore[assignment]
        self.first = errors.readline()
        line = re.match(r"service  (http://\S+)   Ctrl-C stops it\n", self.first)
        assert line, self.first + errors.read()
        self.url = line[1]
        self.second = errors.readline()

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Its exit code, and what else it said."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    stop_server(tmp_path / "home")


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Served]]:
    """Starts services of the test's home, and ends those that still run."""
    begun: list[Served] = []

    def start(*options: str) -> Served:
        begun.append(Served(home, *options))
        return begun[-1]

    yield start
    for service in begun:
        if service.process.poll() is None:
            service.process.kill()
            service.process.communicate()


def test_it_serves_until_it_is_interrupted(serve: Callable[..., Served]) -> None:
    service = serve()
    assert "Open to everyone on this machine" in service.second
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http:
        assert http.get("/v1/health").json() == {"status": "ok", "online": True}
        question = {"symbols": ["EUR/USD"], "features": ["close"]}
        answer = http.post("/v1/latest", json=question).json()
        assert answer["rows"][0]["close"] is None
        assert answer["provenance"]["missing"][0]["reason"] == "no_data"
        code, errors = service.end(signal.SIGINT)
    assert (code, errors) == (0, "")


def test_a_port_in_use_and_a_host_without_a_key_are_one_line(serve: Callable[..., Served], home: Path) -> None:
    port = serve().url.rpartition(":")[2]
    environ = {**os.environ, "FSTORE_HOME": str(home), "FSTORE_REDIS_URL": ""}

    def end(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([FSTORE, "serve", *options], env=environ, capture_output=True, text=True, timeout=60)

    in_use, open_to_all = end("--port", port), end("--port", "0", "--host", "0.0.0.0")  # noqa: S104  # refused
    assert (in_use.returncode, open_to_all.returncode) == (1, 2)
    assert in_use.stderr.startswith(f"error can't listen on 127.0.0.1:{port} (Address already in use)")
    assert in_use.stderr.count("\n") == 1
    assert "fstore keys add" in " ".join(open_to_all.stderr.replace("│", "").split())


def test_a_key_made_and_revoked_while_it_runs_counts_at_once(serve: Callable[..., Served], home: Path) -> None:
    service = serve()
    environ = {**os.environ, "FSTORE_HOME": str(home)}

    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([FSTORE, "keys", *arguments], env=environ, capture_output=True, text=True, check=True)

    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http:
        assert http.get("/metrics").status_code == 200
        key = keys("add", "mine").stdout.strip()
        assert http.get("/metrics").status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert http.get("/metrics", headers=headers).status_code == 200
        revoked = keys("revoke", "mine")
        assert "No key is left" in revoked.stderr
        assert http.get("/metrics", headers=headers).status_code == 401
        assert http.get("/metrics").status_code == 401
    code, errors = service.end(signal.SIGTERM)
    assert (code, errors) == (-signal.SIGTERM, "")
    assert "No key is left, so every request is refused" in serve().second


def test_keys_are_added_listed_and_revoked(fstore: Run, settings: Settings) -> None:
    assert fstore("keys", "list").out == "There are no keys. Create one with: fstore keys add NAME\n"
    added = fstore("keys", "add", "strategy-1")
    assert re.fullmatch(r"fstore_[\w-]{43}\n", added.out)
    assert "not shown again" in added.err
    listed = fstore("keys", "list", "--json")
    assert [row["name"] for row in listed.json] == ["strategy-1"]
    assert set(listed.json[0]) == {"name", "created"}
    assert "strategy-1" in fstore("keys", "list").out
    assert added.out.strip() not in (settings.home / "keys.json").read_text()
    assert fstore("keys", "revoke", "strategy-1").code == 0
    assert fstore("keys", "list", "--json").json == []


@pytest.mark.parametrize("arguments", [("add", "a b"), ("add", "taken"), ("revoke", "nobody"), ("add",)])
def test_a_name_that_can_not_be_is_misuse(fstore: Run, arguments: tuple[str, ...]) -> None:
    fstore("keys", "add", "taken")
    ended = fstore("keys", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error ") or "Usage" in ended.err
