"""The long-lived flow: Prefect starts it, shows it and stops it; ``service`` does the work."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.engine.names import flow_run_id
from flows.stream.service import serve


@flow(name="stream", flow_run_name="stream")
def stream_bars(workers: Annotated[int, Field(ge=1, le=16)] = 1) -> None:
    """Takes live bars until it is cancelled: checks, computes and publishes them at once, stores them in batches.

    Args:
        workers: processes that share the symbols: one for every few hundred.
    """
    serve(workers=workers, flow_run=flow_run_id())
