"""Which stored row was valid at a moment: an as-of join in two kinds of time, by DuckDB."""

from __future__ import annotations

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Int64Array = npt.NDArray[np.int64]

# When revisions count from when they were written, a row can be the answer only from then on, and only as long as
# no row of a later bar (or a later revision of the same bar) had been written: those rows are exactly the ones that
# were the newest at the moment they were written. They ascend in both times, so one as-of join finds the answer; of
# the rows written at one moment (a loaded history) only the newest is a candidate, as the join would take any.
_NEWEST_WHEN_WRITTEN = """
create temp view candidates as
select symbol, event_us, known_us, row_number from (
    select *,
        max(event_us) over (partition by symbol order by known_us) as newest_us,
        lead(known_us) over (partition by symbol order by known_us, event_us, created_us, row_number) as next_us
    from (select *, greatest(event_us, created_us) as known_us from stored)
) where event_us = newest_us and known_us is distinct from next_us
"""
_WHEN_CLOSED = "create temp view candidates as select symbol, event_us, event_us as known_us, row_number from stored"
_MATCH = """
select case when a.ttl_us is null or a.moment_us - c.event_us <= a.ttl_us then c.row_number end as row_number
from asked a asof left join candidates c on a.symbol = c.symbol and a.moment_us >= c.known_us
order by a.position
"""


def match_rows(
    symbols: pd.Series,
    moments_us: Int64Array,
    *,
    row_symbols: pa.ChunkedArray,
    event_us: Int64Array,
    created_us: Int64Array | None = None,
    ttl_us: int | None = None,
) -> pa.Array:
    """The row that was valid for each (symbol, moment).

    Args:
        symbols, moments_us: what is asked: (n,) names and microseconds UTC.
        row_symbols, event_us: the stored rows: name, and when their bar closed.
        created_us: when each row was written; given, a row counts from then on only. Else rows count from when
            their bar closed, and there must be one row a bar.
        ttl_us: the oldest a row may be; None for any age.

    Returns:
        (n,) int64 row numbers, null where there is none.
    """
    stored = {
        "symbol": row_symbols,
        "event_us": event_us,
        "created_us": event_us if created_us is None else created_us,
        "row_number": np.arange(len(event_us)),
    }
    asked = {
        "symbol": pa.array(symbols, pa.string(), from_pandas=True),
        "moment_us": moments_us,
        "position": np.arange(len(moments_us)),
        "ttl_us": pa.nulls(len(moments_us), pa.int64()) if ttl_us is None else np.full(len(moments_us), ttl_us),
    }
    with duckdb.connect() as connection:
        connection.register("stored", pa.table(stored))
        connection.register("asked", pa.table(asked))
        connection.execute(_WHEN_CLOSED if created_us is None else _NEWEST_WHEN_WRITTEN)
        found: pa.Table = connection.sql(_MATCH).to_arrow_table()
    return found["row_number"].combine_chunks()
