"""The dashboard: calls of all clients, features, quality, pipelines and alerts, in a browser and for Prometheus.

``create_app`` builds it from ``Sources`` and ``serve`` serves it. It reads the online and offline stores itself; runs,
gate results and alerts come through ``Operations``.
"""

from fsclient.dashboard.access import Access, read_key
from fsclient.dashboard.app import create_app, warm_up
from fsclient.dashboard.operations import Operations, OperationsError
from fsclient.dashboard.server import serve
from fsclient.dashboard.sources import Sources
from fsclient.remote.access import AccessError

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
