"""The ledger: the platform's memory of its work, in SQLite or PostgreSQL.

Who works on which symbol (leases), how far each has come (watermarks), what ran and how it ended (runs), what the
checks said and what was written (verdicts, revisions), which downloads were taken (ingests), what is in doubt, what of
a backfill is done, and which incidents last (alerts). Bars and features are never in it: losing it costs work, not
data.

Each chapter is a module, and a class over the same database; ``Ledger`` is all of them. A call is one transaction. All
methods are thread-safe. The tables are made and migrated when the ledger is first used.

Moments are UTC: an attribute or argument named ``*_us`` is whole microseconds since 1970, any other an aware datetime.
Every method that asks the database may raise ``LedgerUnavailable``; ``errors`` shows the tree.
"""

from flows.ledger.alerts import Alert
from flows.ledger.doubts import Doubt
from flows.ledger.errors import LeaseLost, LedgerError, LedgerTooNew, LedgerUnavailable, UnknownRun
from flows.ledger.events import Revision, Verdict
from flows.ledger.leases import Holder, Lease
from flows.ledger.ledger import Ledger, Run
from flows.ledger.runs import RunRecord
from flows.ledger.series import IngestedSeries
from flows.ledger.totals import LastEnd, RunTotal, VerdictTotal
from flows.ledger.watermarks import Watermark

__all__ = [
    "Ledger",
    "Lease",
    "Holder",
    "Watermark",
    "IngestedSeries",
    "Run",
    "RunRecord",
    "Verdict",
    "RunTotal",
    "LastEnd",
    "VerdictTotal",
    "Revision",
    "Doubt",
    "Alert",
    "LedgerError",
    "LedgerUnavailable",
    "LedgerTooNew",
    "LeaseLost",
    "UnknownRun",
]
