"""The commands about the HTTP service's keys."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import show
from flows.settings import Settings, load_settings
from fsclient.service.keys import KeyFile

keys = typer.Typer(
    name="keys", help="The keys of the HTTP service: add, list, revoke.", no_args_is_help=True, rich_markup_mode="rich"
)

Name = Annotated[str, typer.Argument(help="Whose key it is, such as a strategy's or a colleague's name.")]


def key_file(settings: Settings) -> KeyFile:
    """Where the project's keys are."""
    return KeyFile(settings.home / "keys.json")


@keys.command()
def add(name: Name) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    file = key_file(load_settings())
    secret = file.add(name)
    print(secret)
    show.line((f"The key of {name}. It is not shown again; a lost one is revoked.", "dim"), to=show.err)


@keys.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Whose keys there are, and since when."""
    file = key_file(load_settings())
    rows = [{"name": key.name, "created": key.created} for key in file.read()]
    if as_json:
        show.dump(rows)
    elif rows:
        show.table("", rows, {"name": "name", "created": "created (UTC)"})
    else:
        show.line("There are no keys: fstore keys add NAME makes one.")


@keys.command()
def revoke(name: Name) -> None:
    """Take a key away; services that run refuse it from now on."""
    file = key_file(load_settings())
    left = file.revoke(name)
    show.line(f"The key of {name} is refused from now on.")
    if not left:
        hint = f"No key is left: services answer nobody until one is added, or {file.path} is deleted."
        show.line((hint, "yellow"), to=show.err)
