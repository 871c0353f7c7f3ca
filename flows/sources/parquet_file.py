"""Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.sources.error import SourceError
from flows.sources.options import SourceOptions
from flows.sources.table import Table, from_arrow


def read_parquet(path: Path, options: SourceOptions) -> Table:  # noqa: ARG001 - one signature for every format
    """Read one Parquet file, all of its row groups.

    Raises:
        SourceError: it is not a Parquet file, or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"not readable as Parquet ({str(error).splitlines()[0]})",
            remedy="Write or download it again.",
            file=path.name,
        ) from None
    return from_arrow(table, file=path.name, detected={"format": "parquet"})
