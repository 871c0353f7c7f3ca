"""What the supervisor writes down for others: who runs, and where. Below ``FSTORE_HOME/stack``."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from feature_repo.atomic_file import replace_file
from flows.stack.processes import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The stack as it was last written down.

    Attributes:
        supervisor: the process that owns the others.
        children: service -> the guard around it.
        places: what a user is told: name -> URL or path.
        api_url: of the Prefect server that the worker asks.
        ready: whether everything had been started.
    """

    supervisor: Identity
    children: Mapping[str, Identity] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    api_url: str = ""
    ready: bool = False


def folder(home: Path) -> Path:
    """Where the stack of a home keeps its lock, its state and its paused schedules."""
    return home / "stack"


def read_state(home: Path) -> State | None:
    """What the last supervisor wrote; None when there was none, or when it left nothing to know."""
    try:
        held = json.loads((folder(home) / "state.json").read_text())
        identities = {name: Identity(**one) for name, one in held.pop("children").items()}
        return State(supervisor=Identity(**held.pop("supervisor")), children=identities, **held)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a version of long ago is as good as none
        return None


def write_state(home: Path, state: State) -> None:
    """Replaces it in one step: who reads sees the earlier or the later one."""
    write_whole(folder(home) / "state.json", json.dumps(asdict(state)))


def clear_state(home: Path) -> None:
    """Forgets it."""
    (folder(home) / "state.json").unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that no reader ever sees a part of it, nor a crash leaves one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode(), is_durable=True)


def take_lock(home: Path, *, patience_s: float = 0.5) -> IO[bytes] | None:
    """The supervisor's lock, held until it is closed or its process ends; None when another supervisor holds it.

    Who only looks (``is_supervised``) has it for an instant, which ``patience_s`` outlasts.
    """
    folder(home).mkdir(parents=True, exist_ok=True)
    lock = (folder(home) / "lock").open("wb")
    deadline = time.monotonic() + patience_s
    while not _locked(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            lock.close()
            return None
        time.sleep(0.02)
    return lock


def is_supervised(home: Path) -> bool:
    """Whether a supervisor lives."""
    try:
        with (folder(home) / "lock").open("rb") as lock:
            return not _locked(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _locked(lock: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
