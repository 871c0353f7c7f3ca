"""The long-lived flow: Prefect starts it, shows it and stops it; ``service`` does the work."""

from __future__ import annotations

from prefect import flow

from flows.engine.names import flow_run_id
from flows.stream.service import serve


@flow(name="stream")
def stream_bars(workers: int = 1) -> None:
    """Takes live bars from the Redis Streams until it is cancelled; see docs/live.md.

    Args:
        workers: how many processes share the work.
    """
    serve(workers=workers, flow_run=flow_run_id())
