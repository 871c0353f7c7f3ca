"""Ports that the stack listens on: free, or whose they are."""

from __future__ import annotations

import contextlib
import socket

import psutil

from flows.stack.errors import PortTakenError


def require_free(host: str, port: int, *, option: str) -> None:
    """Raises:
    PortTakenError: something listens on ``port``; the message says what, as far as can be seen, and what to do.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; a port just left is free
        with contextlib.suppress(OSError):
            probe.bind((host, port))
            return
    raise PortTakenError(f"port {port} is taken{_by(port)}. End that, or take another: fstore up {option} {port + 1}")


def _by(port: int) -> str:
    try:
        listening = [
            c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        ]
        pid = next((c.pid for c in listening if c.pid), None)
        return f" by {psutil.Process(pid).name()}, process {pid}" if pid else ""
    except (psutil.Error, PermissionError):  # macOS tells only root
        return ""
