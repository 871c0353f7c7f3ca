"""The dashboard: calls of all clients, features, quality, pipelines and alerts, in a browser and for Prometheus.

``create_app`` makes it from ``Sources``; ``serve`` serves it. It reads the online and offline stores itself; what it
shows of runs, gates and alerts comes through ``Operations``.
"""

from fsclient.dashboard.access import Access, AccessError, read_key
from fsclient.dashboard.app import create_app, warm_up
from fsclient.dashboard.operations import Operations, OperationsError
from fsclient.dashboard.server import serve
from fsclient.dashboard.sources import Sources

__all__ = [
    "create_app",
    "serve",
    "warm_up",
    "Sources",
    "Access",
    "AccessError",
    "read_key",
    "Operations",
    "OperationsError",
]
