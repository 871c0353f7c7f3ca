"""Bars in files: one, or a folder of them, each read by its format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from flows.sources.csv_file import read_csv
from flows.sources.error import SourceError
from flows.sources.excel_file import read_excel
from flows.sources.options import SourceOptions
from flows.sources.parquet_file import read_parquet
from flows.sources.table import Origin, Table

FORMATS: Mapping[str, Callable[[Path, SourceOptions], Table]] = {
    "csv": read_csv,
    "mt4": read_csv,
    "mt5": read_csv,
    "parquet": read_parquet,
    "excel": read_excel,
}
_SUFFIXES: Mapping[str, tuple[str, ...]] = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",), "excel": (".xlsx",)}
_BEGINNINGS: Mapping[bytes, str] = {b"PAR1": "parquet", b"PK\x03\x04": "excel"}


def read_files(path: Path, options: SourceOptions) -> Origin:
    """The tables at ``path``: of one file whatever its suffix, or of a folder's files in name order.

    Raises:
        SourceError: there is nothing, or nothing readable.
    """
    tables, content, written = [], hashlib.sha256(), 0.0
    for file in _files(path, options):
        try:
            written = max(written, file.stat().st_mtime)
            with file.open("rb") as stream:
                content.update(hashlib.file_digest(stream, "sha256").digest())
                stream.seek(0)
                content_format = _BEGINNINGS.get(stream.read(4), "csv")
            tables.append(
                FORMATS[content_format if options.format in ("auto", "histdata") else options.format](file, options)
            )
        except OSError as error:
            raise SourceError(
                f"cannot be read ({error.strerror})", remedy="Check its permissions.", file=file
            ) from None
    if not any(len(table.lines) for table in tables):
        raise SourceError("no rows", remedy="Give a file with at least one bar below its header.", file=path)
    return Origin(tables=tables, content=content.hexdigest(), written_at=datetime.fromtimestamp(written, UTC))


def _files(path: Path, options: SourceOptions) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise SourceError("no such file or folder", remedy="Check the path.", file=path)
    wanted = {"auto": tuple(_SUFFIXES), "histdata": ("csv", "excel"), "mt4": ("csv",), "mt5": ("csv",)}
    suffixes = tuple(s for name in wanted.get(options.format, (options.format,)) for s in _SUFFIXES[name])
    files = [
        f for f in path.iterdir() if f.name.lower().endswith(suffixes) and not f.name.startswith(".") and f.is_file()
    ]
    if not files:
        raise SourceError(
            "nothing to read in this folder", remedy=f"It needs files that end in {', '.join(suffixes)}.", file=path
        )
    return sorted(files, key=lambda file: file.name)
