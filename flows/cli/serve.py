"""The command that serves lookups over HTTP."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from flows.cli import show
from flows.cli.keys import key_file
from flows.settings import load_settings


def serve(
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8060,
    host: Annotated[str, typer.Option(help="Any other than this machine's own needs a key.")] = "127.0.0.1",
) -> None:
    """Serve lookups over HTTP, for clients that do not reach the stores themselves."""
    from fsclient.remote.access import AccessError
    from fsclient.service.access import Access
    from fsclient.service.lookups import Lookups
    from fsclient.service.server import Server

    settings = load_settings()
    keys = key_file(settings)
    try:
        access = Access.to(host, keys)
    except AccessError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None
    server = Server(Lookups(settings.repo()), access, host=host, port=port)

    def tell(listening: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        show.line(("service", "bold"), f"  http://{shown}:{listening}   Ctrl-C ends it", to=show.err)
        if access.is_open:
            hint = "Open to all on this machine, as there are no keys: fstore keys add NAME makes one."
            show.line((hint, "dim"), to=show.err)
        elif not keys.read():
            show.line(("No key is left, so nobody is answered: fstore keys add NAME makes one.", "yellow"), to=show.err)

    gc.collect()
    gc.freeze()  # what is imported stays: Python's collector takes 60 ms to go through it, in which calls would wait
    server.run(tell)
