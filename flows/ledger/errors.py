"""The ledger's errors, one tree; the database library's own are translated here and nowhere else.

LedgerError
+-- LedgerUnavailable    not reachable, not writable, or locked for too long: the same call may work later
+-- LedgerTooNew         a newer version of the platform has made its tables
+-- LeaseLost            another run holds the symbols now
+-- UnknownRun           a run that the ledger does not hold
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from flows.errors import FixableError

_NAMED_SYMBOLS = 5


class LedgerError(FixableError):
    """Something that the ledger refuses or cannot do; the message names the remedy."""


class LedgerUnavailable(LedgerError):  # noqa: N818 - says what is, as the client's errors do
    """The database does not answer, cannot be written, or is locked; the same call may work later."""


class LedgerTooNew(LedgerError):  # noqa: N818
    """The tables were made by a newer version of the platform, whose rows this one could misread."""


class UnknownRun(LedgerError):  # noqa: N818
    """A run that the ledger does not hold."""

    def __init__(self, run: str) -> None:
        super().__init__(f"the ledger has no run {run!r}: it was pruned, or begun in another ledger")
        self.run = run


class LeaseLost(LedgerError):  # noqa: N818
    """Symbols that a lease no longer holds. Stop: their new holder does the work, and nothing written since counts.

    Attributes:
        symbols: which ones, in the lease's order.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        named = ", ".join(symbols[:_NAMED_SYMBOLS]) + (", ..." if len(symbols) > _NAMED_SYMBOLS else "")
        super().__init__(
            f"the lease of {named} was released, or ran out and was taken by another run; "
            "stop here: the new holder does this work, and a new run may lease the symbols when it is done"
        )
        self.symbols = tuple(symbols)


def place_of(url: URL) -> str:
    """How messages name a database: its file, or its host, port and name. Never its user, password or options."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "the local socket"
    return f"{host}:{url.port or 5432}/{url.database or ''}"


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turns the library's errors into ours. ``place`` names the database and holds no secret.

    The original is not chained: a statement's values, and whatever a driver quotes of its connection, stay out of logs.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise LedgerUnavailable(
            f"the ledger at {place} cannot be used: {_reason(error)}. "
            "Check that it runs, can be reached and written, or set FSTORE_LEDGER_URL to another"
        ) from None
    except PoolTimeout:
        raise LedgerUnavailable(
            f"the ledger at {place} cannot be used: every connection of this process is busy. Use fewer threads"
        ) from None
    except IntegrityError as error:
        raise LedgerError(
            f"the ledger at {place} refuses the rows: {_reason(error)}. "
            "A verdict or revision must name a run that `begin` returned"
        ) from None
    except DBAPIError as error:
        raise LedgerError(
            f"the ledger at {place} failed: {_reason(error)}. "
            "When the database is damaged, restore it, or name an empty one in FSTORE_LEDGER_URL: "
            "leases go on above the lost ones, and the next runs check everything again"
        ) from None
    except StatementError as error:
        raise LedgerError(f"a value that the ledger cannot hold: {error.orig}") from None
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger at {place} failed: {type(error).__name__}") from None


def _reason(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error.orig).__name__
