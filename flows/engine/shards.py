"""A run's symbols in shards, each a task of its own on the task runner that is set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from prefect.futures import as_completed

from flows.engine.names import shard_name
from flows.engine.runner import task_runner
from flows.ledger import Run

log = logging.getLogger("fstore")


def run_shards(
    task: Any,
    names: Sequence[str],
    arguments: Mapping[str, Any],
    *,
    size: int,
    runner: str,
    run: Run,
    again_here: bool = False,
    report: Callable[[int], object] = lambda _: None,
) -> list[tuple[list[str], Any]]:
    """Runs the task once for every ``size`` symbols, and waits for all of them.

    Args:
        task: takes ``label`` (its run's name), ``symbols``, and the ``arguments`` that are the same for all.
        runner: as ``flows.engine.runner`` takes it.
        run: the current run, which gives a sign of life as shards end.
        again_here: a shard whose worker died with it is done here: its work is not lost.
        report: is called with how many symbols are done.

    Returns:
        As shards ended, each one's symbols with what its task returned, or the error that it ended with.
    """
    parts = [list(names[i : i + size]) for i in range(0, len(names), size)]
    results: list[tuple[list[str], Any]] = []
    done = 0
    with task_runner(runner) as running:
        submitted = [{"label": shard_name(part), "symbols": part, **arguments} for part in parts]
        futures = {running.submit(task, shard): shard for shard in submitted}
        for future in as_completed(list(futures)):
            shard = futures[future]
            try:
                result = _result(future, task, shard, again_here=again_here)
            except Exception as error:  # the other shards go on
                result = error
            results.append((shard["symbols"], result))
            done += len(shard["symbols"])
            run.touch()
            report(done)
            log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    return results


def _result(future: Any, task: Any, arguments: Mapping[str, Any], *, again_here: bool) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        if not again_here:
            raise
        return task(**arguments)
