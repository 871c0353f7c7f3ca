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
    rows = []
    for view in (catalog.view("ohlcv", "1h"), catalog.view("indicators", "1h")):
        values = {field_key(view.name, name): encode_double(value) for name in view.fields}
        rows.append(ViewRow(view=view.name, event_us=event, created_us=created, values=values))
    return rows


def published_revision(redis: Any) -> tuple[int, int]:
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
    for event, written in ((1_000_000, True), (2_000_000, True), (1_000_000, False)):
        assert publish(redis, "test", EURUSD, rows_at(event, 5, 1.0), fence=7) == (written, written)
    assert published_revision(redis) == (2_000_000, 5)


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
    assert published_revision(redis) == (1_000_000, 5)


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
    assert published_revision(redis) == (399_000_000, 2)
    with pytest.raises(FencedOutError):
        publish(redis, "test", EURUSD, rows_at(400_000_000, 9, 1.0), fence=1)
