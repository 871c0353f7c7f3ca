"""The HTTP server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from fsclient.service.access import Access
from fsclient.service.app import create_app
from fsclient.service.lookups import Lookups

MAX_CONNECTIONS = 1_000
"""Connections and pending answers at most; a client beyond that is asked to come back later."""
KEEP_ALIVE_S = 30
GRACE_S = 5
"""How long pending answers may take once the service is stopping."""


class Server:
    """One service; its address is bound as soon as it is created.

    Args:
        access: created for ``host``.
        port: 0 for any free port.

    Raises:
        OSError: the address is in use, or not one of this machine.
    """

    def __init__(self, lookups: Lookups, access: Access, *, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        app = create_app(lookups, access, is_stopping=lambda: self._server.should_exit)
        config = uvicorn.Config(
            app,
            loop="asyncio",  # the loop that the tests use
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = uvicorn.Server(config)

    def run(self, on_ready: Callable[[int], None] = lambda _: None) -> None:
        """Serves until it is interrupted, terminated or stopped.

        Args:
            on_ready: called with the port, which is listening already: a connection made now is answered shortly.
        """
        on_ready(self.port)
        try:
            with suppress(KeyboardInterrupt):
                self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Stops the service, from any thread; pending answers are completed."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise OSError(f"can't listen on {host}:{port} ({error.strerror}); choose another --port") from None
    return listening
