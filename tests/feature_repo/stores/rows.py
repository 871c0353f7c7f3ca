"""Rows as a run writes them, with values that a test can recognise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa

from feature_repo.stores.delta.tables import DeltaTables

MakeRows = Callable[..., pa.Table]


def rounded(values: Any) -> list[float | None]:
    return [None if pd.isna(value) else round(value, 3) for value in values]


def write(tables: DeltaTables, make_rows: MakeRows, *arguments: Any, **options: Any) -> None:
    """Bars and their indicators, as a run writes them."""
    for table in ("bars", "indicators"):
        tables.append(table, make_rows(table, *arguments, **options))
