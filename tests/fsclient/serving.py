"""A real service on a repository, in a thread: uvicorn, its socket, its event loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

from feature_repo.repo import Repo
from fsclient.metrics.registry import Metrics
from fsclient.service.access import Access
from fsclient.service.keys import KeyFile
from fsclient.service.lookups import Lookups
from fsclient.service.server import Server


class Serving:
    """A service from ``__enter__`` to ``__exit__``.

    Args:
        keys: the file of its keys.
        options: of ``Lookups``: its clocks.

    Attributes:
        metrics: what it counted.
    """

    def __init__(self, repo: Repo, keys: Path, *, port: int = 0, **options: Any) -> None:
        self.metrics = Metrics()
        self.keys = KeyFile(keys)
        self.lookups = Lookups(repo, metrics=self.metrics, publish_metrics=False, **options)
        access = Access.to("127.0.0.1", self.keys)
        self._server = Server(self.lookups, access, host="127.0.0.1", port=port)
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, name="service")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def hears(self) -> bool:
        """Whether its cache follows publishes."""
        return any(listener.is_listening for listener in self.lookups.invalidator._listeners.values())

    def stop(self) -> None:
        """Ends it; harmless when called twice."""
        self._server.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the service does not end"
