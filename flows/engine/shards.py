"""A run's symbols in shards, each a task of its own on the task runner that is set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from prefect.futures import as_completed

from flows.engine.names import shard_name
from flows.engine.runner import task_runner
from flows.ledger import Ledger

log = logging.getLogger("fstore")


def run_shards(
    task: Any,
    names: Sequence[str],
    given: Mapping[str, Any],
    *,
    size: int,
    runner: str,
    ledger: Ledger,
    run: str,
    again_here: bool = False,
    told: Callable[[int], object] = lambda _: None,
) -> list[tuple[list[str], Any]]:
    """Runs the task once for every ``size`` symbols, and waits for all of them.

    Args:
        task: takes ``label`` (its run's name), ``symbols``, and what is ``given`` to all.
        runner: as ``flows.engine.runner`` takes it.
        run: the ledger's run that this is, which is seen to live as long as shards end.
        again_here: a shard whose worker died with it is done here: its work is not lost.
        told: is called with how many symbols are done.

    Returns:
        As shards ended, each one's symbols with what its task returned, or the error that it ended with.
    """
    parts = [list(names[i : i + size]) for i in range(0, len(names), size)]
    found: list[tuple[list[str], Any]] = []
    done = 0
    with task_runner(runner) as running:
        submitted: list[dict[str, Any]] = [{"label": shard_name(part), "symbols": part, **given} for part in parts]
        futures = {running.submit(task, arguments): arguments for arguments in submitted}
        for future in as_completed(list(futures)):
            arguments = futures[future]
            try:
                result = _result(future, task, arguments, again_here=again_here)
            except Exception as error:  # the other shards go on
                result = error
            found.append((arguments["symbols"], result))
            done += len(arguments["symbols"])
            ledger.touch(run)
            told(done)
            log.info("%d of %d symbols", done, len(names), extra={"done": done, "total": len(names)})
    return found


def _result(future: Any, task: Any, arguments: Mapping[str, Any], *, again_here: bool) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        if not again_here:
            raise
        return task(**arguments)
