"""Runs a command that must not outlive its owner: ``python guard.py GRACE_S COMMAND…``.

The owner holds the other end of this process's standard input. When that end closes, because the owner closed it or
ended in any way, the command and everything it started receive SIGTERM, and SIGKILL if they are still running after
``GRACE_S``. The same happens to whatever a command leaves behind when it ends by itself. Prefect's worker starts every
flow run in a session of its own, so a process group would miss some: on Linux orphans become children of this process;
elsewhere they are the processes that were seen before the command ended.

Exit code: the command's own, or 128 plus the number of the signal that ended it, as in a shell.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main(grace_s: float, command: list[str]) -> int:
    """Runs ``command`` until it ends or the owner does; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, lambda *_: None
        )  # only the owner ends a guard; unlike SIG_IGN, a handler is not inherited
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # the owner's own command line
    events: queue.SimpleQueue[None] = queue.SimpleQueue()
    for wait in (child.wait, lambda: os.read(0, 1)):
        threading.Thread(target=_notify, args=(wait, events), daemon=True).start()
    events.get()
    _end(child, grace_s)
    _end(child, 0.0)  # whatever was started meanwhile
    code = child.wait()
    return code if code >= 0 else 128 - code


def _notify(wait: Callable[[], object], events: queue.SimpleQueue[None]) -> None:
    with contextlib.suppress(OSError):
        wait()
    events.put(None)


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    processes = psutil.Process().children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if grace_s else process.kill()
    others = [process for process in processes if process.pid != child.pid]  # `child` collects its exit code itself
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    psutil.wait_procs(others, timeout=max(0.0, deadline - time.monotonic()))


if __name__ == "__main__":
    code = main(float(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    os._exit(code)  # a thread may still block in a read that never returns
