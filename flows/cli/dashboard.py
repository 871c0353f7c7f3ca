"""The command that serves the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import show
from flows.cli.arguments import Host, Port
from flows.settings import load_settings


def dashboard(
    port: Port = 8050,
    host: Host = "127.0.0.1",
    debug: Annotated[bool, typer.Option("--debug", help="Show errors in the browser.")] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="File that contains the key.", envvar="FSTORE_DASHBOARD_KEY_FILE")
    ] = None,
    key: Annotated[str | None, typer.Option(hidden=True, envvar="FSTORE_DASHBOARD_KEY", show_envvar=False)] = None,
    prefect_ui: Annotated[
        str, typer.Option(help="Prefect UI that runs link to.", envvar=["PREFECT_UI_URL", "PREFECT_API_URL"])
    ] = "",
) -> None:
    """Serve the dashboard (clients, features, quality, pipelines, alerts) and /metrics for Prometheus."""
    from flows.cli.operations import LedgerOperations
    from fsclient.dashboard import Access, AccessError, Sources, read_key, serve

    settings = load_settings()
    try:
        access = Access.to(host, read_key(key, key_file))
    except AccessError as error:
        raise typer.BadParameter(str(error)) from None
    operations = LedgerOperations(settings, prefect_url=prefect_ui.removesuffix("/").removesuffix("/api"))
    sources = Sources.of(settings.repo(), access=access, operations=operations)

    def announce(actual_port: int) -> None:
        show.listening("dashboard", host, actual_port)
        if access.key is None:
            show.line(("Read-only: releasing rows requires a key, see docs/dashboard.md.", "dim"), to=show.err)

    serve(sources, host=host, port=port, debug=debug, on_ready=announce)
