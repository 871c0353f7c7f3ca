"""A throw-away PostgreSQL server for tests, where its binaries are installed.

A ``conftest.py`` that imports ``postgres_url`` has the fixture: the URL of a server that runs while the tests do.
``new_database`` makes an empty database in it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, make_url

_START_TIMEOUT_S = 60.0
_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of the server's first database, with its password; skips where PostgreSQL is not installed."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed")
    with postgres_server(binaries) as url:
        yield url


def find_postgres() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: of the newest installed version, or on the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda bin_: int(float(bin_.parent.name)))
    command = shutil.which("initdb")
    candidates = [*reversed(installed), *([Path(command).parent] if command else [])]
    return next((bin_ for bin_ in candidates if (bin_ / "initdb").exists() and (bin_ / "postgres").exists()), None)


@contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """Runs a server on a free port of the loopback, in a folder of its own that goes with it."""
    password = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="fstore-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text(password)
        user = _user(folder, secret)
        initdb = (binaries / "initdb", "-D", folder / "data", "-U", "fstore", f"--pwfile={secret}")
        subprocess.run(
            [*initdb, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **user,
        )  # fmt: skip
        port = _free_port()
        url = URL.create("postgresql+psycopg", "fstore", password, "127.0.0.1", port, "postgres")
        text = url.render_as_string(hide_password=False)
        settings = ("fsync=off", "synchronous_commit=off", "shared_buffers=16MB", "max_connections=60")
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
                + [part for setting in settings for part in ("-c", setting)],
                stdout=log, stderr=log, cwd=folder, preexec_fn=_end_with_parent(), **user,
            )  # fmt: skip
        try:
            _await_server(server, text, folder / "log")
            yield text
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.wait(_START_TIMEOUT_S)


def new_database(server_url: str) -> str:
    """Makes an empty database. Returns its URL; it ends with the server."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(_conninfo(server_url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _user(*owned: Path) -> dict[str, Any]:
    """The user under whom the server runs: it refuses root, so root's tests use an unprivileged one."""
    if os.geteuid():
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = names.get("postgres") or names["nobody"]
    for path in owned:
        os.chown(path, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _end_with_parent() -> Callable[[], None] | None:
    """What makes the server end with tests that are killed; on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGQUIT), 0, 0, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _conninfo(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _await_server(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(_conninfo(url), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {log.read_text()}") from error
            time.sleep(0.05)
        else:
            return
