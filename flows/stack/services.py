"""The services of the stack: their commands, and how to see that they are ready."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_repo.home import REPO
from flows.stack.schedules import POOL

PROJECT = REPO.parent
"""The folder that holds the package ``flows``: the project's, or where a wheel was installed."""

PREFECT_FILE = PROJECT / "flows" / "deployed" / "prefect.yaml"
"""The platform's deployments."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # services of this machine, never by a proxy
_PREFECT = (sys.executable, "-m", "prefect")
_FSTORE = (sys.executable, "-c", "from flows.cli import main; main()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One long-lived process.

    Attributes:
        command: its command line.
        ready_url: returns 200 once the service is ready; empty: it is ready as soon as it is started.
    """

    name: str
    command: Sequence[str]
    ready_url: str = ""

    def is_ready(self) -> bool:
        """Whether it is ready; takes a second at most."""
        if not self.ready_url:
            return True
        try:
            with _DIRECT.open(self.ready_url, timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def prefect_server(host: str, port: int) -> Service:
    """The Prefect server and its UI."""
    return Service(
        name="prefect-server",
        command=[*_PREFECT, "server", "start", "--host", host, "--port", str(port)],
        ready_url=f"http://{host}:{port}/api/health",
    )


def worker() -> Service:
    """The worker that runs the deployments' flows, each in a process of its own."""
    return Service(name="worker", command=[*_PREFECT, "worker", "start", "--pool", POOL, "--type", "process"])


def dashboard(host: str, port: int) -> Service:
    """The dashboard."""
    return Service(
        name="dashboard",
        command=[*_FSTORE, "dashboard", "--host", host, "--port", str(port)],
        ready_url=f"http://{host}:{port}/assets/favicon.svg",  # open to those without a key, too
    )


def deploy_command(file: Path) -> Sequence[str]:
    """Registers every deployment of a ``prefect.yaml`` without asking anything."""
    return [*_PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
