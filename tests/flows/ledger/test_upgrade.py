"""Migrations: from nothing, from several processes at once, and never over a newer version's tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import column, create_engine, inspect, select, table

from flows.ledger import Ledger, LedgerError, LedgerTooNew
from flows.ledger.schema import METADATA, REVISION, VERSION_TABLE
from flows.ledger.upgrade import MIGRATIONS, upgrade
from tests.flows.ledger.conftest import OpenLedger

OPEN = """
import sys
from flows.ledger import Ledger
sys.stdin.readline()
with Ledger(sys.argv[1]) as ledger:
    print(ledger.begin("race", parameters={}))
"""


def test_the_newest_migration_is_the_one_that_the_schema_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_the_migrations_make_the_tables_of_the_schema(url: str) -> None:
    engine = create_engine(url)
    upgrade(engine)
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, METADATA) == []
        indexes = {index["name"] for table in METADATA.tables for index in inspect(connection).get_indexes(table)}
    assert indexes == {index.name for table in METADATA.tables.values() for index in table.indexes}
    engine.dispose()


def test_processes_that_open_an_empty_ledger_at_once_all_do(url: str, open_ledger: OpenLedger) -> None:
    command = [sys.executable, "-W", "error", "-c", OPEN, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert [error for _, error in answers if error] == []
    assert {run.id for run in open_ledger().runs()} == {out.strip() for out, _ in answers}


def test_a_newer_ledger_is_refused_and_left_alone(url: str, open_ledger: OpenLedger) -> None:
    open_ledger().ping()
    version = table(VERSION_TABLE, column("version_num"))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(version.update().values(version_num="9999"))
    with pytest.raises(LedgerTooNew, match=r"revision '9999'.*Update this installation"):
        open_ledger().runs()
    with engine.connect() as connection:
        assert connection.execute(select(version.c.version_num)).scalar() == "9999"
    engine.dispose()


def test_a_failed_migration_leaves_nothing_behind(
    url: str, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fault: a migration fails half way. The next version that can, starts where this one started."""
    broken = tmp_path / "migrations"
    (broken / "versions").mkdir(parents=True)
    (broken / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    (broken / "versions" / "v0001_broken.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    op.create_table('half', sa.Column('id', sa.Integer))\n    op.execute('SELECT nonsense')\n"
    )
    monkeypatch.setattr("flows.ledger.upgrade.MIGRATIONS", broken)
    with pytest.raises(LedgerError, match="nonsense"):
        open_ledger().ping()
    monkeypatch.undo()
    open_ledger().ping()
    engine = create_engine(url)
    assert "half" not in inspect(engine).get_table_names()
    engine.dispose()


def test_a_folder_with_strange_letters_will_do(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/100% & ü/new/ledger.db") as ledger:
        assert ledger.runs() == []
