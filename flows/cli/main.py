"""The ``fstore`` command line: its commands and exit codes (0 done, 1 failed, 2 misused)."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from feature_repo.catalog import CatalogError
from feature_repo.stores.redis.embedded import EmbeddedServerError
from flows.apply import DefinitionChangedError, DefinitionFailedError
from flows.cli import dashboard, history, ingest, jobs, lookups, rebase, service, show, stack, stream, withdraw
from flows.errors import FixableError
from flows.settings import SettingsError
from flows.sources import MissingExtraError, SourceError
from fsclient.errors import FeatureStoreError, InvalidRequestError, UnknownFeatureError, UnknownSymbolError
from fsclient.service.keys import KeysError

app = typer.Typer(
    name="fstore",
    help="Bars in, checked features out: the value a strategy reads live is the value its backtest read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        show.line(f"fstore {metadata.version('fstore')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for command in (
    *(jobs.demo, stack.up, stack.down, jobs.status),
    *(
        jobs.apply,
        ingest.ingest,
        rebase.rebase,
        withdraw.withdraw,
        withdraw.sources,
        jobs.materialize,
        history.backfill,
    ),
    *(stream.stream, stream.replay, stream.listen),
    *(lookups.latest, lookups.get, history.explain, history.verify, history.gaps, history.maintain),
    *(service.serve, dashboard.dashboard),
):
    app.command()(command)
app.add_typer(service.keys)

_MISUSE = (
    *(CatalogError, SettingsError, InvalidRequestError, UnknownSymbolError, UnknownFeatureError, KeysError),
    MissingExtraError,
)
_FAILURE = (
    SourceError,
    DefinitionChangedError,
    DefinitionFailedError,
    EmbeddedServerError,
    FixableError,
    FeatureStoreError,
    OSError,
)


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; an error that a user can fix is one line without a traceback."""
    try:
        return app(arguments)
    except _MISUSE as error:
        _complain(str(error))
        sys.exit(2)
    except _FAILURE as error:
        _complain(str(error))
        sys.exit(1)
    except RedisError as error:
        _complain(f"the online store does not answer ({error}). Check FSTORE_REDIS_URL and that server.")
        sys.exit(1)


def _complain(message: str) -> None:
    show.line(("error", "bold red"), f" {message}", to=show.err)
