"""Parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.sources.error import SourceError
from flows.sources.options import SourceOptions
from flows.sources.table import Table


def read_parquet(path: Path, options: SourceOptions) -> Table:  # noqa: ARG001 - one signature for every format
    """Read one Parquet file, all of its row groups.

    Raises:
        SourceError: it is none, or damaged.
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

    def raw(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
        taken = table.take(pa.array(rows - 1)).to_pylist()
        return [", ".join(f"{name}={value}" for name, value in row.items()) for row in taken]

    return Table(
        file=path.name,
        names=tuple(table.column_names),
        columns=tuple(table.columns),
        lines=np.arange(1, table.num_rows + 1, dtype=np.int64),
        unit="row",
        raw=raw,
        detected={"format": "parquet"},
    )
