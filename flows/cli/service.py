"""Commands of the HTTP service: serve, and the keys that it accepts."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from flows.cli import show
from flows.cli.arguments import AsJson, Host, Port
from flows.settings import Settings, load_settings
from fsclient.service.keys import KeyFile

keys = typer.Typer(
    name="keys", help="Manage the keys of the HTTP service.", no_args_is_help=True, rich_markup_mode="rich"
)

Name = Annotated[str, typer.Argument(help="Owner of the key, such as a strategy or a colleague.")]


def key_file(settings: Settings) -> KeyFile:
    """The key file of this home."""
    return KeyFile(settings.home / "keys.json")


@keys.command()
def add(name: Name) -> None:
    """Create a key and print it; it is shown only once, as just its hash is stored."""
    file = key_file(load_settings())
    secret = file.add(name)
    print(secret)
    show.line((f"The key of {name}. It is not shown again; revoke it if it is lost.", "dim"), to=show.err)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the owners of keys and when each key was created."""
    file = key_file(load_settings())
    rows = [{"name": key.name, "created": key.created} for key in file.read()]
    if as_json:
        show.dump(rows)
    elif rows:
        show.table("", rows, {"name": "name", "created": "created (UTC)"})
    else:
        show.line("There are no keys. Create one with: fstore keys add NAME")


@keys.command()
def revoke(name: Name) -> None:
    """Revoke a key; running services refuse it at once."""
    file = key_file(load_settings())
    remaining = file.revoke(name)
    show.line(f"The key of {name} is revoked.")
    if not remaining:
        hint = f"No key is left: services refuse every request until a key is added or {file.path} is deleted."
        show.line((hint, "yellow"), to=show.err)


def serve(
    port: Port = 8060,
    host: Host = "127.0.0.1",
) -> None:
    """Serve lookups over HTTP, for clients that can't reach the stores themselves."""
    from fsclient.remote.access import AccessError
    from fsclient.service.access import Access
    from fsclient.service.lookups import Lookups
    from fsclient.service.server import Server

    settings = load_settings()
    file = key_file(settings)
    try:
        access = Access.to(host, file)
    except AccessError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None
    server = Server(Lookups(settings.repo()), access, host=host, port=port)

    def announce(actual_port: int) -> None:
        show.listening("service", host, actual_port)
        if access.is_open:
            hint = "Open to everyone on this machine, as there are no keys. Create one with: fstore keys add NAME"
            show.line((hint, "dim"), to=show.err)
        elif not file.read():
            warning = "No key is left, so every request is refused. Create one with: fstore keys add NAME"
            show.line((warning, "yellow"), to=show.err)

    gc.collect()
    gc.freeze()  # imported modules stay: collecting them takes 60 ms, for which calls would wait
    server.run(announce)
