"""How the command line prints tables, frames and progress; ``--json`` prints the same as JSON, with all digits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fsclient.provenance import KEY

_PIPED_WIDTH = 160  # a file or a pager has no width of its own, and a truncated table is useless


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPED_WIDTH)


out = _console()
err = _console(stderr=True)
_MAX_ROWS = 40
_UNBOUNDED = 100_000


def split(names: str) -> list[str]:
    """Comma-separated names as a list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def dump(value: Any) -> None:
    """Prints JSON: times in ISO UTC, NaN as null."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    print(orjson.dumps(value, default=_plain, option=options).decode())


def _plain(value: Any) -> Any:
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def line(*parts: str | tuple[str, str], to: Console = out) -> None:
    """Prints one line of text and (text, style) parts literally: a path or a file's text is not markup."""
    to.print(Text.assemble(*parts), soft_wrap=True)


def table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], caption: str = "") -> None:
    """Prints rows as a table, or as one block each where the screen is too narrow: nothing is ever truncated.

    ``columns`` maps a row's key to its heading; the first column names the row. Numbers are aligned to the right.
    """
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for key, heading in columns.items():
        number = any(isinstance(row.get(key), int | float) for row in rows)
        grid.add_column(Text(heading), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell(row.get(key))) for key in columns))
    if title:
        line((title, "bold"))
    if out.measure(grid, options=out.options.update(width=_UNBOUNDED)).maximum <= out.width:
        out.print(grid)
    else:
        _print_blocks(rows, columns)
    if caption:
        line((caption, "italic"))


def _print_blocks(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    first, *others = columns
    for row in rows:
        line((cell(row.get(first)), "bold"))
        pairs = [Text.assemble((f"{columns[key]} ", "dim"), cell(row.get(key))) for key in others]
        out.print(Padding(Columns(pairs, padding=(0, 2)), (0, 0, 0, 2)))
    out.print()


def cell(value: Any) -> str:
    """A value as text: at least six digits, and all decimals with which a large price is quoted."""
    if value is None or value is pd.NaT:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "-"
        return f"{value:,.5f}".rstrip("0").rstrip(".") if 1e3 <= abs(float(value)) < 1e15 else f"{value:.6g}"
    return str(value)


def frame(answer: pd.DataFrame, *, as_json: bool) -> None:
    """Prints a client's answer and its provenance."""
    rows = answer.reset_index()
    if as_json:
        dump({"rows": rows.to_dict("records"), KEY: answer.attrs.get(KEY)})
        return
    shown = rows if len(rows) <= _MAX_ROWS else pd.concat([rows.head(_MAX_ROWS // 2), rows.tail(_MAX_ROWS // 2)])
    caption = _provenance_line(answer.attrs[KEY])
    if len(shown) < len(rows):
        caption += f"\nfirst and last {_MAX_ROWS // 2} of {len(rows):,} rows; --json prints all of them"
    table("", shown.to_dict("records"), {str(c): str(c) for c in shown.columns}, caption)


def _provenance_line(record: Mapping[str, Any]) -> str:
    parts = [f"from {record['source']}"]
    if record["as_of"]:
        parts.append(f"as of {record['as_of'].replace('T', ' ').replace(':00Z', ' UTC')}")
    if record["age_bars"] is not None:
        parts.append(f"{record['age_bars']:,} bars old")
    parts.append("complete" if record["complete"] else f"incomplete: {_missing(record['missing'])}")
    if record["stale"]:
        parts.append("STALE")
    return ", ".join(parts)


def _missing(missing: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for gap in missing:
        counts[gap["reason"]] = counts.get(gap["reason"], 0) + int(gap.get("bars", 1))
    return ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in counts.items())


@contextmanager
def progress(what: str) -> Iterator[None]:
    """A progress bar on stderr, moved by the flows' own log records that carry ``done`` and ``total``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    logger = logging.getLogger("fstore")
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        class Mover(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if hasattr(record, "total"):
                    bar.update(task, completed=record.done, total=record.total)  # type: ignore[attr-defined]

        mover, level, propagate = Mover(), logger.level, logger.propagate
        logger.addHandler(mover)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(mover)
            logger.setLevel(level)
            logger.propagate = propagate


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` with its series, such as EUR/USD 1h, as its ``name``."""
    return {**row, "name": f"{row['symbol']} {row['timeframe']}".strip()}


def problem(symbol: str, timeframe: str, why: str, *, state: str = "stopped") -> None:
    """Prints why a series was stopped, or is in doubt."""
    line((state, "bold red"), f" {symbol} {timeframe}".rstrip() + f": {why}", to=err)


def listening(what: str, host: str, port: int) -> None:
    """Prints the address on which a server listens."""
    address = f"[{host}]" if ":" in host else host
    line((what, "bold"), f"  http://{address}:{port}   Ctrl-C stops it", to=err)
