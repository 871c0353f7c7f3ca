"""Where the bars are: a file, or a folder of files, each read by its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from flows.sources.csv_file import read_csv
from flows.sources.error import SourceError
from flows.sources.options import SourceOptions
from flows.sources.parquet_file import read_parquet
from flows.sources.table import Table

FORMATS: Mapping[str, Callable[[Path, SourceOptions], Table]] = {"csv": read_csv, "parquet": read_parquet}
_SUFFIXES: Mapping[str, tuple[str, ...]] = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",)}


def read_tables(path: Path, options: SourceOptions) -> list[Table]:
    """The tables at ``path``: of one file whatever its suffix, or of a folder's files in name order.

    Raises:
        SourceError: there is nothing, or nothing readable.
    """
    tables = []
    for file in _files(path, options):
        try:
            tables.append(FORMATS[_format(file, options)](file, options))
        except OSError as error:
            raise SourceError(
                f"cannot be read ({error.strerror})", remedy="Check its permissions.", file=file
            ) from None
    if not any(len(table.lines) for table in tables):
        raise SourceError("no rows", remedy="Give a file with at least one bar below its header.", file=path)
    return tables


def _files(path: Path, options: SourceOptions) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise SourceError("no such file or folder", remedy="Check the path.", file=path)
    suffixes = tuple(s for name, some in _SUFFIXES.items() if options.format in ("auto", name) for s in some)
    files = [
        f for f in path.iterdir() if f.name.lower().endswith(suffixes) and not f.name.startswith(".") and f.is_file()
    ]
    if not files:
        raise SourceError(
            "nothing to read in this folder", remedy=f"It needs files that end in {', '.join(suffixes)}.", file=path
        )
    return sorted(files, key=lambda file: file.name)


def _format(file: Path, options: SourceOptions) -> str:
    if options.format != "auto":
        return options.format
    with file.open("rb") as stream:
        return "parquet" if stream.read(4) == b"PAR1" else "csv"
