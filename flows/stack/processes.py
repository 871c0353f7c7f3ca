"""Processes identified by id and start time, because the system reuses ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_S = 15.0
"""How long a process may take to end before it is killed; a flow run first writes and reports."""

_GUARD = Path(__file__).with_name("guard.py")
_MAX_LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process; ``started`` in seconds since 1970."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises: psutil.NoSuchProcess."""
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process while it runs; None when it has ended, even if its id has been reused."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) < 0.05
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Child:
    """A command run in ``folder`` under a guard, so that it ends with this process; its output goes to ``log``.

    Raises:
        OSError: the log can't be written.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environ: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
            log.replace(log.with_suffix(".1.log"))
        with log.open("ab") as out:
            self._guard = subprocess.Popen(  # noqa: S603  # our own commands, without a shell
                [
                    sys.executable,
                    "-P",
                    str(_GUARD),
                    str(GRACE_S),
                    *command,
                ],  # by path: nothing else is imported
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=folder,
                start_new_session=True,  # the owner handles Ctrl-C in its terminal
            )
        self.identity = Identity.of(self._guard.pid)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._guard.poll()

    def release(self) -> None:
        """Makes the guard end the command; returns at once."""
        if self._guard.stdin and not self._guard.stdin.closed:
            self._guard.stdin.close()

    def stop(self) -> None:
        """Ends the command and everything it started, and waits for that."""
        self.release()
        try:
            self._guard.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    def last_line(self) -> str:
        """The last line of the log, for an error message."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


def ask_to_end(identity: Identity, timeout_s: float) -> bool:
    """Sends SIGTERM to a process and waits; returns whether it has ended."""
    process = identity.process()
    if process is None:
        return True
    process.send_signal(signal.SIGTERM)
    return wait_for_end(identity, timeout_s)


def wait_for_end(identity: Identity, timeout_s: float) -> bool:
    """Waits for a process to end; returns whether it did within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while identity.process() is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def kill(identity: Identity) -> None:
    """Kills a process, if it is still running."""
    if (process := identity.process()) is not None:
        os.kill(process.pid, signal.SIGKILL)
        wait_for_end(identity, 5.0)
