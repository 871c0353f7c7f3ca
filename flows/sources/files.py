"""Bars in files: one, or a folder of them, each read by its format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from flows.sources.csv_file import read_csv
from flows.sources.error import SourceError
from flows.sources.excel_file import read_excel
from flows.sources.options import SourceOptions
from flows.sources.parquet_file import read_parquet
from flows.sources.table import Origin, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """How files of one format are recognised and read.

    Attributes:
        name: what ``SourceOptions.format`` calls it.
        read: reads one file, its columns as they are.
        suffixes: those of its files in a folder.
        beginning: its files' first four bytes; None where they say nothing.
    """

    name: str
    read: Callable[[Path, SourceOptions], Table]
    suffixes: tuple[str, ...]
    beginning: bytes | None = None


FORMATS: Mapping[str, FileFormat] = MappingProxyType(
    {
        file_format.name: file_format
        for file_format in (
            FileFormat(name="csv", read=read_csv, suffixes=(".csv", ".csv.gz")),
            FileFormat(name="mt4", read=read_csv, suffixes=(".csv", ".csv.gz")),
            FileFormat(name="mt5", read=read_csv, suffixes=(".csv", ".csv.gz")),
            FileFormat(name="parquet", read=read_parquet, suffixes=(".parquet",), beginning=b"PAR1"),
            FileFormat(name="excel", read=read_excel, suffixes=(".xlsx",), beginning=b"PK\x03\x04"),
        )
    }
)


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
                by_content = _format_of(stream.read(4))
            tables.append(FORMATS.get(options.format, by_content).read(file, options))
        except OSError as error:
            raise SourceError(
                f"cannot be read ({error.strerror})", remedy="Check its permissions.", file=file
            ) from None
    if not any(len(table.lines) for table in tables):
        raise SourceError("no rows", remedy="Give a file with at least one bar below its header.", file=path)
    return Origin(tables=tables, content=content.hexdigest(), written_at=datetime.fromtimestamp(written, UTC))


def _format_of(beginning: bytes) -> FileFormat:
    return next((each for each in FORMATS.values() if each.beginning == beginning), FORMATS["csv"])


def _files(path: Path, options: SourceOptions) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise SourceError("no such file or folder", remedy="Check the path.", file=path)
    wanted = {"auto": tuple(FORMATS), "histdata": ("csv", "excel")}.get(options.format, (options.format,))
    suffixes = tuple(dict.fromkeys(suffix for name in wanted for suffix in FORMATS[name].suffixes))
    files = [
        f for f in path.iterdir() if f.name.lower().endswith(suffixes) and not f.name.startswith(".") and f.is_file()
    ]
    if not files:
        raise SourceError(
            "nothing to read in this folder", remedy=f"It needs files that end in {', '.join(suffixes)}.", file=path
        )
    return sorted(files, key=lambda file: file.name)
