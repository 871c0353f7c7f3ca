"""The ports that the stack listens on: whether they are free, and if not, who uses them."""

from __future__ import annotations

import contextlib
import socket

import psutil

from flows.stack.state import StackError


class PortTakenError(StackError):
    """A port that the stack needs is in use by another process."""


def require_free(host: str, port: int, *, option: str) -> None:
    """Refuses a port that is in use.

    Raises:
        PortTakenError: the message names the process that uses it, where that can be seen, and the remedy.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; a port just released is free
        with contextlib.suppress(OSError):
            probe.bind((host, port))
            return
    raise PortTakenError(
        f"port {port} is in use{_by(port)}. Stop that, or choose another port: fstore up {option} {port + 1}"
    )


def _by(port: int) -> str:
    try:
        listening = [
            c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
        pid = next((c.pid for c in listening if c.pid), None)
        return f" by {psutil.Process(pid).name()}, process {pid}" if pid else ""
    except (psutil.Error, PermissionError):  # macOS shows this to root only
        return ""
