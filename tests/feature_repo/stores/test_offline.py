"""What the offline store refuses Feast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore, FileSource

from feature_repo import catalog
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.offline import BarOfflineStore

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CLOSE = JANUARY + HOUR  # of the first bar of an hour
MakeRows = Callable[..., pa.Table]


def test_nothing_is_written_past_the_gate(feature_store: FeatureStore, tables: DeltaTables) -> None:
    rows = {
        "symbol": ["EUR/USD"],
        "event_timestamp": [CLOSE],
        "created": [CLOSE],
        **dict.fromkeys(catalog.BAR_FIELDS, 1.0),
    }
    with pytest.raises(NotImplementedError, match="fstore ingest"):
        feature_store.write_to_offline_store("ohlcv_1h", pd.DataFrame(rows), reorder_columns=False)
    assert tables.version("bars") is None


def test_a_source_of_another_store_is_refused(feature_store: FeatureStore, tables: DeltaTables) -> None:
    other = FileSource(name="other", path="other.parquet", timestamp_field="event_timestamp")
    with pytest.raises(ValueError, match="'other' is no source of the catalog"):
        BarOfflineStore.pull_latest_from_table_or_query(
            feature_store.config, other, ["symbol"], ["close", "open"], "event_timestamp", None, JANUARY, CLOSE
        )
