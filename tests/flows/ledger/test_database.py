"""Connecting to the database: which URLs are valid, what an error says, and which processes may use it."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url

from flows.ledger import Ledger, LedgerError, LedgerUnavailable
from flows.ledger.database import _make_engine
from tests.flows.ledger.conftest import OpenLedger

SECRET = "s3cr3t"  # noqa: S105 - no password of anything


def shown(error: BaseException) -> str:
    """All that a traceback would show of an error: itself and what it is chained to."""
    chained = None if error.__suppress_context__ else error.__context__
    cause = error.__cause__ or chained
    return str(error) + (shown(cause) if cause else "")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ledger.db", "can't be read as a URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        (f"mysql://me:{SECRET}@host/db", "names 'mysql'"),
        (f"postgresql://me:a@{SECRET}@host/db", "percent-encode"),
        (f"postgresql://me:a@host:{SECRET}/db", "can't be read as a URL"),
        (f"nosuchthing+x://me:{SECRET}@host/db", "names 'nosuchthing'"),
    ],
)
def test_a_url_that_names_no_ledger_is_refused_without_showing_it(url: str, reason: str) -> None:
    with pytest.raises(LedgerError, match=reason) as refused:
        Ledger(url)
    assert SECRET not in shown(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_any_spelling_of_postgresql_will_do(scheme: str) -> None:
    ledger = Ledger(f"{scheme}://me:{SECRET}@db.example/work")
    assert repr(ledger) == "Ledger('db.example:5432/work')"


def test_an_unreachable_database_is_named_without_its_password() -> None:
    """Fault: nothing listens on the port."""
    with (
        Ledger(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/work") as ledger,
        pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:1/work.*FSTORE_LEDGER_URL") as failed,
    ):
        ledger.ping()
    assert SECRET not in shown(failed.value)


def test_a_wrong_password_is_told_and_not_shown(postgres_url: str) -> None:
    wrong = make_url(postgres_url).set(password=SECRET).render_as_string(hide_password=False)
    with Ledger(wrong) as ledger, pytest.raises(LedgerUnavailable, match="password authentication failed") as failed:
        ledger.ping()
    assert SECRET not in shown(failed.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """Fault: the ledger's file is damaged."""
    (tmp_path / "ledger.db").write_text("not a database at all" * 100)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger, pytest.raises(LedgerError, match="damaged, restore it"):
        ledger.ping()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Ledger(f"sqlite:///{tmp_path}/file/ledger.db") as ledger, pytest.raises(LedgerUnavailable, match="file"):
        ledger.ping()


def test_a_lost_connection_is_replaced(open_ledger: OpenLedger, url: str) -> None:
    """Fault: PostgreSQL is restarted, and every connection of the pool is dead."""
    ledger, other = open_ledger(), open_ledger()
    ledger.ping()
    if not url.startswith("sqlite"):
        with other._writing() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    ledger.ping()


def test_a_closed_ledger_says_so(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.ping()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.ping()


def test_a_dropped_ledger_leaves_no_connection_open(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    with ledger._reading() as connection:
        driver = connection.connection.driver_connection
    assert driver
    del ledger, connection
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path}/ledger.db").close()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_has_connections_of_its_own(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.begin("parent", parameters={})
    parents = ledger._opened()
    child = os.fork()
    if not child:
        status = 1
        try:
            ledger.begin("child", parameters={})
            status = int(ledger._opened() is parents)
            ledger.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert {run.kind for run in ledger.runs()} == {"parent", "child"}


def test_writers_wait_for_each_other(open_ledger: OpenLedger) -> None:
    """Fault: two threads and two connections write at once; SQLite would answer "database is locked"."""
    ledgers = [open_ledger(), open_ledger()]
    failed: list[BaseException] = []

    def write(ledger: Ledger) -> None:
        try:
            for _ in range(10):
                ledger.begin("race", parameters={})
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(ledger,)) for ledger in ledgers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(ledgers[0].runs()) == 40


def test_the_default_clock_is_the_wall(open_ledger: OpenLedger) -> None:
    assert abs(open_ledger().lease(["A"], owner="me").token / 1e6 - time.time()) < 60


def test_a_file_that_several_make_at_once_is_locked_for_none(tmp_path: Path) -> None:
    """Fault: two connections switch a new file to WAL. SQLite fails one of them at once, whatever its timeout."""
    failed: list[BaseException] = []

    def connect(url: str, start: threading.Barrier) -> None:
        engine = _make_engine(make_url(url))
        start.wait()
        try:
            engine.connect().close()
        except BaseException as error:
            failed.append(error)
        engine.dispose()

    for file in range(60):  # about one in ten fails
        arguments = (f"sqlite:///{tmp_path}/{file}.db", threading.Barrier(4))
        threads = [threading.Thread(target=connect, args=arguments) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
