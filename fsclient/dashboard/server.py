"""Serving the dashboard."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dash import Dash

from fsclient.dashboard.app import create_app, warm_up
from fsclient.dashboard.sources import Sources


def serve(
    sources: Sources, *, host: str, port: int, debug: bool = False, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serves until interrupted. ``sources.access`` must have been created for ``host``.

    Args:
        port: 0 for any free port.
        on_ready: called with the port once it listens.

    Raises:
        OSError: the address is in use, or not one of this machine.
    """
    from werkzeug.serving import make_server

    app: Dash = create_app(sources)
    warm_up(sources)
    if debug:
        if on_ready:
            on_ready(port)
        # The version check would contact another machine, and the reloader would start everything twice.
        app.run(host=host, port=port, debug=True, dev_tools_disable_version_check=True, use_reloader=False)
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no log line per request
    server = make_server(host, port, app.server, threaded=True)
    if on_ready:
        on_ready(server.server_port)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
