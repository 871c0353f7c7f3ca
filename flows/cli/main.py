"""The ``fstore`` command: its options, and how it ends: 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console

from feature_repo.catalog import CatalogError
from feature_repo.stores.embedded import EmbeddedServerError
from flows.cli import jobs, lookups
from flows.settings import SettingsError
from flows.sources import SourceError
from fsclient.errors import FeatureStoreError, InvalidRequestError, UnknownFeatureError, UnknownSymbolError

app = typer.Typer(
    name="fstore",
    help="Bars in, checked features out: the value a strategy reads live is the value its backtest read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (jobs.demo, jobs.apply, jobs.ingest, jobs.materialize, jobs.status, lookups.latest, lookups.get):
    app.command()(command)

_MISUSE = (CatalogError, SettingsError, InvalidRequestError, UnknownSymbolError, UnknownFeatureError)
_FAILURE = (SourceError, EmbeddedServerError, FeatureStoreError)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; errors that a user can mend are one line, without a traceback."""
    try:
        return app(arguments)
    except _MISUSE as error:
        _complain(error)
        sys.exit(2)
    except _FAILURE as error:
        _complain(error)
        sys.exit(1)


def _complain(error: Exception) -> None:
    Console(stderr=True, highlight=False).print("[bold red]error[/]", str(error), markup=True, soft_wrap=True)
