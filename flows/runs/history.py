"""What a job reads: its source bars, the bars before them that indicators need, and what is stored already.

Jobs of one timeframe whose tails begin in the same month are read together, in one pass over that month's files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS
from feature_repo.freshness import open_before
from feature_repo.moments import to_datetime
from feature_repo.sessions import grid_open
from feature_repo.stores.schemas import SCHEMAS
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import by_symbol, microseconds
from flows.compute.increment import LONGEST, STATE_FIELDS, stretch_start, warm_up
from flows.compute.job import BAR_COLUMNS, History, Job

_SPARE = 1.02  # bars are missing here and there


def read_histories(jobs: Sequence[Job], tables: OfflineTables) -> Iterator[tuple[Job, History]]:
    """Each job with its history. Jobs that need all of theirs are read one by one, so that only one is in memory."""
    together: dict[tuple[str, str, str], list[tuple[Job, datetime]]] = defaultdict(list)
    for job in jobs:
        start_us = tail_start(job)
        if start_us is None:
            yield job, whole_history(job, tables)
        else:
            start = to_datetime(start_us)
            source = job.source.name if job.source else ""
            together[job.timeframe.name, source, f"{start:%Y-%m}"].append((job, start))
    for (timeframe, source, _), group in together.items():
        names = [job.symbol.name for job, _ in group]
        tail = min(start for _, start in group)
        since = min(to_datetime(job.since_us or 0) for job, _ in group)
        span = {"timeframe": timeframe, "symbols": names}
        bars = by_symbol(tables.read("bars", columns=BAR_COLUMNS, start=tail, **span))  # type: ignore[arg-type]
        features = by_symbol(tables.read("indicators", columns=INDICATOR_FIELDS, start=since, **span))  # type: ignore[arg-type]
        state = by_symbol(tables.read("indicators", columns=STATE_FIELDS, start=tail, **span))  # type: ignore[arg-type]
        sources = (
            by_symbol(tables.read("bars", timeframe=source, symbols=names, columns=BAR_FIELDS, start=since))
            if source
            else {}
        )
        for job, _ in group:
            name = job.symbol.name
            history = History(
                source=_from(sources.get(name, _EMPTY_BARS), job.since_us) if source else None,
                bars=bars.get(name, _EMPTY_BARS),
                features=_from(features.get(name, _EMPTY_FEATURES), job.since_us),
                state=state.get(name, _EMPTY_FEATURES),
                whole=_is_whole(job, int(tail.timestamp() * 1e6)),
            )
            yield job, history if _reaches(job, history) else whole_history(job, tables)


def whole_history(job: Job, tables: OfflineTables) -> History:
    """All that is stored of a job's symbol and timeframe."""
    since = None if job.since_us is None else to_datetime(job.since_us)
    span = {"timeframe": job.timeframe.name, "symbols": [job.symbol.name]}
    features = tables.read("indicators", columns=INDICATOR_FIELDS, start=since, **span)  # type: ignore[arg-type]
    return History(
        source=tables.read(
            "bars", timeframe=job.source.name, symbols=[job.symbol.name], columns=BAR_FIELDS, start=since
        )
        if job.source
        else None,
        bars=tables.read("bars", columns=BAR_COLUMNS, **span),  # type: ignore[arg-type]
        features=features,
        state=features if since is None else tables.read("indicators", columns=STATE_FIELDS, **span),  # type: ignore[arg-type]
        whole=True,
    )


def tail_start(job: Job) -> int | None:
    """Open of the first bar that an increment reads; None when that is all of history."""
    if job.since_us is None:
        return None
    stretch_us = stretch_start(LONGEST, job.timeframe, job.since_us)
    start_us = open_before(job.symbol.session, job.timeframe, stretch_us, round(warm_up(LONGEST) * _SPARE))
    return None if _is_whole(job, start_us) else start_us


def _is_whole(job: Job, start_us: int) -> bool:
    first = grid_open(job.symbol.session, job.timeframe, np.array([job.first_us]))
    return start_us <= int(first[0])


def _reaches(job: Job, history: History) -> bool:
    """Whether enough bars lie before the job's beginning; where many are missing, there may be fewer than expected."""
    stretch_us = stretch_start(LONGEST, job.timeframe, job.since_us or 0)
    before = int(np.searchsorted(microseconds(history.bars, "open_time"), stretch_us))
    return history.whole or before >= warm_up(LONGEST)


def _from(rows: pa.Table, since_us: int | None) -> pa.Table:
    if since_us is None or not rows.num_rows:
        return rows
    return rows.slice(int(np.searchsorted(microseconds(rows, "open_time"), since_us)))


_EMPTY_BARS = SCHEMAS["bars"].empty_table()
_EMPTY_FEATURES = SCHEMAS["indicators"].empty_table()
