"""Maintenance: makes the stores smaller and faster, and changes nothing that a reader can see."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from pydantic import Field

from feature_repo.stores.schemas import TableName
from feature_repo.stores.tables import SHORTEST_RETENTION, OfflineTables
from flows.engine.names import flow_run_id
from flows.engine.states import final_state
from flows.ledger import Ledger
from flows.settings import load_settings

log = logging.getLogger("fstore")
_COUNTS = ("partitions", "removed", "added", "rewritten_rows", "deleted_files", "deleted_rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is not needed is kept.

    Attributes:
        files: data files that no current version of a table needs; readers of older versions need them.
        quarantine: rejected rows, decided about or not.
        history: ended runs, verdicts, revisions and closed alerts in the ledger.
    """

    files: timedelta = timedelta(days=7)
    quarantine: timedelta = timedelta(days=365)
    history: timedelta = timedelta(days=90)

    def __post_init__(self) -> None:
        if self.files < SHORTEST_RETENTION:
            raise ValueError(f"files are kept for {SHORTEST_RETENTION} at least, because reads may have them open")
        if self.quarantine <= timedelta(0) or self.history <= timedelta(0):
            raise ValueError("quarantine and history are kept for more than no time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintained:
    """What was done to one table.

    Attributes:
        partitions: months that were rewritten, ordered by symbol; ``removed`` files became ``added`` ones.
        rewritten_rows: rows of version 0.1 that held NaN for unknown values, and now hold null.
        deleted_files: files that no version of the last days needs.
        deleted_rows: rows that were older than they are kept; of the quarantine and the ledger only.
        version: the table's version at the end, written down as a checkpoint.
    """

    table: str
    partitions: int = 0
    removed: int = 0
    added: int = 0
    rewritten_rows: int = 0
    deleted_files: int = 0
    deleted_rows: int = 0
    version: int | None = None


def maintain_stores(tables: OfflineTables, ledger: Ledger, retention: Retention, now: datetime) -> list[Maintained]:
    """Deletes what is past its retention, compacts, vacuums and checkpoints every table, and prunes the ledger."""
    done: list[Maintained] = []
    names: tuple[TableName, ...] = get_args(TableName)
    for i, name in enumerate(names):
        before = now - retention.quarantine if name == "quarantine" else None
        upkeep = tables.maintain(name, retention=retention.files, quarantined_before=before)
        done.append(Maintained(table=name, **asdict(upkeep)))
        log.info("%s", name, extra={"done": i + 1, "total": len(names) + 1})
    done.append(Maintained(table="ledger", deleted_rows=ledger.prune(now - retention.history)))
    return done


@flow(name="maintain")
def maintain(
    file_days: Annotated[float, Field(gt=0)] = 7,
    quarantine_days: Annotated[float, Field(gt=0)] = 365,
    history_days: Annotated[float, Field(gt=0)] = 90,
) -> State[list[Maintained]]:
    """Compacts and vacuums the offline tables and prunes quarantine and ledger; runs and readers go on meanwhile.

    Args:
        file_days: how long data files that no current version needs are kept; readers of older versions need them.
        quarantine_days: how long rejected rows are kept.
        history_days: how long ended runs, verdicts and closed alerts are kept in the ledger.

    Raises:
        ValueError: a retention that deletes what may be in use.
    """
    retention = Retention(
        files=timedelta(days=file_days),
        quarantine=timedelta(days=quarantine_days),
        history=timedelta(days=history_days),
    )
    settings = load_settings()
    tables, ledger, now = settings.tables(), settings.ledger(), datetime.now(UTC)
    parameters = {"file_days": file_days, "quarantine_days": quarantine_days, "history_days": history_days}
    with ledger.run("maintain", tables=tables, now=now, parameters=parameters, flow_run=flow_run_id()) as run:
        done = maintain_stores(tables, ledger, retention, now)
        run.counts.update({name: sum(getattr(table, name) for table in done) for name in _COUNTS})
    rows = [asdict(table) for table in done]
    create_table_artifact(key="maintain", table=rows, description="What was done to each table")
    return final_state(f"{run.counts['deleted_files']} files, {run.counts['deleted_rows']} rows deleted", [], done)
