"""What the supervisor records for other processes: what runs, and where. Stored below ``FSTORE_HOME/stack``."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from feature_repo.atomic_file import replace_file
from flows.errors import FixableError
from flows.settings import Settings
from flows.stack.processes import Identity


class StackError(FixableError):
    """The stack can't be started or stopped; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The stack as last recorded.

    Attributes:
        supervisor: the process that owns the others.
        children: service -> its guard process.
        places: what is shown to the user: name -> URL or path.
        api_url: the Prefect server that the worker polls.
        ready: whether everything had started.
    """

    supervisor: Identity
    children: Mapping[str, Identity] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    api_url: str = ""
    ready: bool = False


def folder(home: Path) -> Path:
    """The folder in which a home's stack keeps its lock, its state and its paused schedules."""
    return home / "stack"


def read_state(home: Path) -> State | None:
    """What the last supervisor recorded; None when there is no record."""
    try:
        record = json.loads((folder(home) / "state.json").read_text())
        children = {name: Identity(**identity) for name, identity in record.pop("children").items()}
        return State(supervisor=Identity(**record.pop("supervisor")), children=children, **record)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a much older version's record counts as none
        return None


def write_state(home: Path, state: State) -> None:
    """Replaces the record atomically: a reader sees the earlier or the later one."""
    write_whole(folder(home) / "state.json", json.dumps(asdict(state)))


def clear_state(home: Path) -> None:
    """Deletes the record."""
    (folder(home) / "state.json").unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a file atomically: no reader sees a part of it, and a crash leaves none behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode(), is_durable=True)


def take_lock(home: Path, *, timeout_s: float = 0.5) -> IO[bytes] | None:
    """The supervisor's lock, held until it is closed or its process ends; None when another supervisor holds it.

    ``is_supervised`` holds it for an instant, which ``timeout_s`` outlasts.
    """
    folder(home).mkdir(parents=True, exist_ok=True)
    lock = (folder(home) / "lock").open("wb")
    deadline = time.monotonic() + timeout_s
    while not _locked(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            lock.close()
            return None
        time.sleep(0.02)
    return lock


def is_supervised(home: Path) -> bool:
    """Whether a supervisor is running."""
    try:
        with (folder(home) / "lock").open("rb") as lock:
            return not _locked(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def running_state(settings: Settings) -> State | None:
    """The home's stack while its supervisor is running; None when the stack is down."""
    return read_state(settings.home) if is_supervised(settings.home) else None


def running_api(settings: Settings) -> str | None:
    """The API of the running stack's Prefect server, where other runs belong too; None when the stack is not up."""
    state = running_state(settings)
    return state.api_url if state and state.ready else None


def stack_lines(settings: Settings) -> list[tuple[str, str]]:
    """(what, where) of each part of the stack and its processes; a single line when the stack is down."""
    state = running_state(settings)
    if state is None:
        return [("stack", "down; start it with fstore up")]
    how = "up" if state.ready else "starting"
    lines = [("stack", f"{how}, process {state.supervisor.pid}; stop it with fstore down"), *state.places.items()]
    for name, guard in state.children.items():
        lines.append((name, f"process {guard.pid}" if guard.process() else "ended, will be restarted"))
    return lines


def _locked(lock: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
