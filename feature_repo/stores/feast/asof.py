"""As-of joins by DuckDB: the stored row that was valid at a moment, by close or by the time it was written."""

from __future__ import annotations

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Int64Array = npt.NDArray[np.int64]

# When revisions count from the moment they were written, a row can be the answer only from then on, and only until a
# row of a later bar (or a later revision of the same bar) is written. So the candidates are the rows that were the
# newest when they were written. They ascend in both times, so one as-of join finds the answer. Of rows written at the
# same moment (a loaded history) only the newest is a candidate, because the join would take any of them.
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
        symbols, moments_us: the entity rows: (n,) names and microseconds UTC.
        row_symbols, event_us: the stored rows: name, and when their bar closed.
        created_us: when each row was written; a row then counts from that moment on. Without it rows count from the
            close of their bar, and there must be one row per bar.
        ttl_us: the oldest a row may be; None for any age.

    Returns:
        (n,) int64 row numbers, null where no row was valid.
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
        matches: pa.Table = connection.sql(_MATCH).to_arrow_table()
    return matches["row_number"].combine_chunks()
