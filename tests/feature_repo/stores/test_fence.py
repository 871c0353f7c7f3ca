"""Fencing: a run that lost its symbols to another writes nothing over it, neither offline nor online."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from feature_repo import catalog
from feature_repo.stores.delta import commits
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.redis.codec import FENCE_KEY, encode_double, entity_key, field_key, read_revision, revision_key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.publish import ViewRow, publish

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EURUSD, GBPUSD = "EUR/USD", "GBP/USD"
MakeRows = Callable[..., pa.Table]


def every(tables: DeltaTables) -> list[tuple[str, float]]:
    """All revisions of all bars: symbol and close."""
    rows = tables.read("bars", columns=["close"], all_revisions=True)
    return [(row["symbol"], round(row["close"], 3)) for row in rows.to_pylist()]


# ------------------------------------------------------------------------------------------------------- offline


@pytest.fixture
def written(tables: DeltaTables, make_rows: MakeRows) -> DeltaTables:
    """Tables with a bar of each of two symbols, written under token 1."""
    rows = pa.concat_tables([make_rows("bars", EURUSD), make_rows("bars", GBPUSD)])
    tables.append("bars", rows, fences={EURUSD: 1, GBPUSD: 1})
    return tables


def test_a_run_writes_again_upon_what_it_has_read(written: DeltaTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", start=JANUARY + HOUR, value=1.0), fences={EURUSD: 1}, since=since)
    assert every(written) == [(EURUSD, 0.003), (EURUSD, 1.003), (GBPUSD, 0.003)]


@pytest.mark.parametrize("stale", [1, 9])
def test_of_two_that_read_the_same_version_the_second_is_refused(
    written: DeltaTables, make_rows: MakeRows, stale: int
) -> None:
    """Whatever its token: what it computed is of rows that are no longer the newest."""
    since = written.version("bars")
    written.append("bars", make_rows("bars", value=100.0, created=JANUARY + 2 * HOUR), fences={EURUSD: 2}, since=since)
    before, version = every(written), written.version("bars")
    late = make_rows("bars", value=200.0, created=JANUARY + 3 * HOUR)
    with pytest.raises(FencedOutError, match="another run has written bars of EUR/USD meanwhile"):
        written.append("bars", late, fences={EURUSD: stale}, since=since)
    assert (every(written), written.version("bars")) == (before, version)
    assert written.read("bars", symbols=[EURUSD], columns=["close"])["close"].to_pylist() == [100.003]


def test_an_earlier_token_is_refused_even_if_it_reads_again(written: DeltaTables, make_rows: MakeRows) -> None:
    """It slept through its lease between asking for it and reading: what it brings may be an older download."""
    rows = make_rows("bars", value=100.0, created=JANUARY + 2 * HOUR)
    written.append("bars", rows, fences={EURUSD: 3}, since=written.version("bars"))
    before = every(written)
    with pytest.raises(FencedOutError):
        written.append("bars", make_rows("bars", value=200.0), fences={EURUSD: 2}, since=written.version("bars"))
    assert every(written) == before


def test_one_symbol_of_many_refuses_all_of_the_commit(written: DeltaTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", GBPUSD, start=JANUARY + HOUR), fences={GBPUSD: 2}, since=since)
    rows = pa.concat_tables([make_rows("bars", name, start=JANUARY + HOUR) for name in (EURUSD, GBPUSD)])
    with pytest.raises(FencedOutError, match="EUR/USD or one of 1 more symbols"):
        written.append("bars", rows, fences={EURUSD: 1, GBPUSD: 1}, since=since)
    assert len(every(written)) == 3


def test_another_symbol_is_no_obstacle(written: DeltaTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", GBPUSD, start=JANUARY + HOUR), fences={GBPUSD: 2}, since=since)
    written.append("bars", make_rows("bars", EURUSD, start=JANUARY + HOUR), fences={EURUSD: 1}, since=since)
    assert len(every(written)) == 4


def test_who_is_refused_reads_again_and_may_write(written: DeltaTables, make_rows: MakeRows) -> None:
    """The other run has died after its commit, and the lease is ours: only what we read was too old."""
    since = written.version("bars")
    written.append("bars", make_rows("bars", start=JANUARY + HOUR), fences={EURUSD: 2}, since=since)
    mine = make_rows("bars", start=JANUARY + 2 * HOUR)
    with pytest.raises(FencedOutError):
        written.append("bars", mine, fences={EURUSD: 3}, since=since)
    written.append("bars", mine, fences={EURUSD: 3}, since=written.version("bars"))
    assert len(every(written)) == 4


def test_who_read_before_there_was_a_table_is_refused_too(tables: DeltaTables, make_rows: MakeRows) -> None:
    since = tables.version("bars")
    assert since is None
    tables.append("bars", make_rows("bars"), fences={EURUSD: 2}, since=None)
    with pytest.raises(FencedOutError):
        tables.append("bars", make_rows("bars", created=JANUARY + 9 * HOUR), fences={EURUSD: 1}, since=since)
    tables.append("bars", make_rows("bars", GBPUSD), fences={GBPUSD: 1}, since=since)
    assert every(tables) == [(EURUSD, 0.003), (GBPUSD, 0.003)]


def test_of_two_that_make_the_table_at_once_one_is_refused(tables: DeltaTables, make_rows: MakeRows) -> None:
    together, ended = threading.Barrier(2), []

    def write(token: int) -> None:
        own = DeltaTables(tables.root)
        together.wait()
        try:
            own.append("bars", make_rows("bars"), fences={EURUSD: token}, since=None)
            ended.append("stored")
        except FencedOutError:
            ended.append("refused")

    threads = [threading.Thread(target=write, args=(token,)) for token in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["refused", "stored"]
    assert every(tables) == [(EURUSD, 0.003)]


def test_fault_a_process_that_died_when_it_had_made_the_table(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty table reads as no rows, and is written to as if it were none."""
    with monkeypatch.context() as patch:
        patch.setattr(commits, "write_deltalake", _die)
        with pytest.raises(KeyboardInterrupt):
            tables.append("bars", make_rows("bars"), fences={EURUSD: 1}, since=None)
    assert tables.symbols() == ()
    assert tables.read("bars", start=JANUARY, end=JANUARY + HOUR).num_rows == 0
    span = {"timeframe": "1h", "symbol": EURUSD, "start": None, "end": None}
    assert tables.read_range("bars", columns=["close"], **span).num_rows == 0  # type: ignore[arg-type]
    tables.append("bars", make_rows("bars"), fences={EURUSD: 2}, since=tables.version("bars"))
    assert every(tables) == [(EURUSD, 0.003)]


def _die(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


def test_fault_the_schema_changed_meanwhile_and_nobody_wrote_the_symbol(
    written: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = commits.write_deltalake, iter([CommitFailedError("Metadata changed since last commit.")])

    def fail_first(*arguments: Any, **options: Any) -> None:
        for failure in failures:
            raise failure
        real(*arguments, **options)

    monkeypatch.setattr(commits, "write_deltalake", fail_first)
    rows = make_rows("bars", start=JANUARY + HOUR)
    written.append("bars", rows, fences={EURUSD: 2}, since=written.version("bars"))
    assert len(every(written)) == 3


# -------------------------------------------------------------------------------------------------------- online


def rows_at(event: int, created: int, value: float) -> list[ViewRow]:
    found = []
    for view in (catalog.view("ohlcv", "1h"), catalog.view("indicators", "1h")):
        values = {field_key(view.name, name): encode_double(value) for name in view.fields}
        found.append(ViewRow(view=view.name, event_us=event, created_us=created, values=values))
    return found


def held(redis: Any) -> tuple[int, int]:
    """The bar and revision that the store holds."""
    return read_revision(redis.hget(entity_key(EURUSD, "test"), revision_key(catalog.view("ohlcv", "1h").name)))


def test_a_later_token_writes_and_an_earlier_one_nothing_more(redis: Any) -> None:
    """Not even a newer bar: its indicators are of a history that the later run has corrected."""
    assert publish(redis, "test", EURUSD, rows_at(1_000_000, 5, 1.0), fence=2) == (True, True)
    assert publish(redis, "test", EURUSD, rows_at(2_000_000, 5, 1.0), fence=3) == (True, True)
    before = redis.hgetall(entity_key(EURUSD, "test"))
    with pytest.raises(FencedOutError, match="EUR/USD: a later run has published it"):
        publish(redis, "test", EURUSD, rows_at(3_000_000, 9, 2.0), fence=2)
    assert redis.hgetall(entity_key(EURUSD, "test")) == before


def test_a_token_goes_on_writing_newer_bars_and_never_older_ones(redis: Any) -> None:
    for event, took in ((1_000_000, True), (2_000_000, True), (1_000_000, False)):
        assert publish(redis, "test", EURUSD, rows_at(event, 5, 1.0), fence=7) == (took, took)
    assert held(redis) == (2_000_000, 5)


def test_tokens_are_numbers_and_not_text(redis: Any) -> None:
    publish(redis, "test", EURUSD, rows_at(1_000_000, 1, 1.0), fence=9)
    assert publish(redis, "test", EURUSD, rows_at(2_000_000, 1, 1.0), fence=10) == (True, True)
    with pytest.raises(FencedOutError):
        publish(redis, "test", EURUSD, rows_at(3_000_000, 1, 1.0), fence=9)


def test_a_later_run_shuts_an_earlier_one_out_even_if_it_has_nothing_new(redis: Any) -> None:
    publish(redis, "test", EURUSD, rows_at(1_000_000, 5, 1.0), fence=1)
    assert publish(redis, "test", EURUSD, rows_at(1_000_000, 5, 1.0), fence=2) == (False, False)
    with pytest.raises(FencedOutError):
        publish(redis, "test", EURUSD, rows_at(1_000_000, 6, 1.0), fence=1)
    assert held(redis) == (1_000_000, 5)


def test_feast_writes_without_a_token_and_takes_nobody_s_away(redis: Any) -> None:
    publish(redis, "test", EURUSD, rows_at(1_000_000, 5, 1.0), fence=2)
    assert publish(redis, "test", EURUSD, rows_at(2_000_000, 5, 1.0)) == (True, True)
    assert int(redis.hget(entity_key(EURUSD, "test"), FENCE_KEY)) == 2
    with pytest.raises(FencedOutError):
        publish(redis, "test", EURUSD, rows_at(3_000_000, 5, 1.0), fence=1)


def test_a_token_is_one_symbols(redis: Any) -> None:
    publish(redis, "test", EURUSD, rows_at(1_000_000, 5, 1.0), fence=2)
    assert publish(redis, "test", GBPUSD, rows_at(1_000_000, 5, 1.0), fence=1) == (True, True)


def test_two_tokens_racing_end_with_the_later_ones_value(redis: Any, server_url: str) -> None:
    """Each publishes bar after bar; from the later token's first write on, the earlier one is shut out."""
    together = threading.Barrier(2)

    def write(token: int) -> None:
        with connect(server_url) as client:
            together.wait()
            for n in range(1, 400):
                try:
                    publish(client, "test", EURUSD, rows_at(n * 1_000_000, token, float(token)), fence=token)
                except FencedOutError:
                    return

    threads = [threading.Thread(target=write, args=(token,)) for token in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(redis) == (399_000_000, 2)
    with pytest.raises(FencedOutError):
        publish(redis, "test", EURUSD, rows_at(400_000_000, 9, 1.0), fence=1)
