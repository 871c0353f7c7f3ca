"""The HTTP application: its paths, and how answers and errors are written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pandas as pd
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from fsclient.answers.arrow import bars_to_arrow, frame_to_arrow
from fsclient.errors import FeatureStoreError, FeatureStoreUnavailable
from fsclient.metrics.prometheus import register
from fsclient.metrics.registry import Metrics
from fsclient.remote.encoding import ARROW, JSON, frame_to_json
from fsclient.remote.problems import FAILED, problem
from fsclient.service.access import Access, Gate
from fsclient.service.feed import lines
from fsclient.service.lookups import Lookups
from fsclient.service.questions import (
    ComputeQuestion,
    HistoryQuestion,
    IndicatorsQuestion,
    LatestQuestion,
    OhlcvQuestion,
)

_QUICK_CELLS = 20_000
"""A larger answer is written in a thread, so that other requests do not wait for it."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer as JSON, or as an Arrow stream if `Accept` asks for one.",
        "content": {JSON: {}, ARROW: {}},
    },
    "4XX": {"description": 'The question is invalid: `{"error": {"kind": ..., "message": ...}}`.'},
    "5XX": {"description": "No answer is available now; the body has the same form."},
}

_log = logging.getLogger("feature_store_client")


def create_app(lookups: Lookups, access: Access, *, is_stopping: Callable[[], bool] = lambda: False) -> Gate:
    """The application behind its gate. It listens for publishes while it runs, and closes ``lookups`` at its end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lookups.invalidator.begin()
        yield
        await lookups.close()

    # FastAPI's documentation pages load scripts from another machine; the schema that they show stays available.
    app = FastAPI(title="fstore", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(FeatureStoreError, _explain)
    app.add_exception_handler(RequestValidationError, _explain_invalid)
    app.add_exception_handler(HTTPException, _explain_http)
    app.add_exception_handler(Exception, _explain_failure)

    @app.post("/v1/latest", responses=_ANSWERS)
    async def latest(question: LatestQuestion, request: Request) -> Response:
        """Features of the newest closed bar, one row per symbol."""
        return await _answer(await lookups.latest(question), request)

    @app.post("/v1/ohlcv", responses=_ANSWERS)
    async def ohlcv(question: OhlcvQuestion, request: Request) -> Response:
        """Bars."""
        return await _answer(await lookups.ohlcv(question), request)

    @app.post("/v1/indicators", responses=_ANSWERS)
    async def indicators(question: IndicatorsQuestion, request: Request) -> Response:
        """Indicators."""
        return await _answer(await lookups.indicators(question), request)

    @app.post("/v1/compute", responses=_ANSWERS)
    async def compute(question: ComputeQuestion, request: Request) -> Response:
        """One of the catalog's kinds or a TA-Lib function, with the caller's own parameters."""
        return await _answer(await lookups.compute(question), request)

    @app.post("/v1/history", responses={200: {"content": {ARROW: {}}}})
    async def history(question: HistoryQuestion) -> Response:
        """Bars and the bars before them, for a client that computes a function of its own; Arrow only."""
        bars = await lookups.history(question)
        return Response(await asyncio.to_thread(bars_to_arrow, bars), media_type=ARROW)

    @app.get("/v1/publishes")
    async def publishes(request: Request) -> Response:
        """Publishes from now on, one line of JSON each, and an empty object at least every second."""
        if not lookups.invalidator.is_listening:
            raise FeatureStoreUnavailable("publishes can't be received now: the online store does not answer")
        headers = dict(request.headers)
        events = lines(lookups.invalidator, lambda: not is_stopping() and access.admits(headers))
        return StreamingResponse(events, media_type="application/x-ndjson")

    @app.get("/v1/health")
    async def health() -> Response:
        """Whether the service and its online store answer."""
        return Response(orjson.dumps({"status": "ok", "online": await lookups.is_online()}), media_type=JSON)

    exposition = _exposition(lookups.metrics)

    @app.get("/metrics")
    def metrics() -> Response:
        """Counts of this process's calls for Prometheus."""
        body, kind = exposition()
        return Response(body, headers={"content-type": kind})

    return Gate(app, access)


async def _answer(frame: pd.DataFrame, request: Request) -> Response:
    arrow = ARROW in request.headers.get("accept", "")
    write = frame_to_arrow if arrow else frame_to_json
    body = write(frame) if frame.size <= _QUICK_CELLS else await asyncio.to_thread(write, frame)
    return Response(body, media_type=ARROW if arrow else JSON)


def _exposition(metrics: Metrics) -> Callable[[], tuple[bytes, str]]:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    register(registry, metrics)
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)


def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, FeatureStoreError)  # noqa: S101  # it is registered for these only
    status, body, headers = problem(error)
    return Response(body, status, headers, media_type=JSON)


def _explain_invalid(_: Request, error: Exception) -> Response:
    """Which field is wrong and why, without repeating its value."""
    details = error.errors()[:5]  # type: ignore[attr-defined]  # a RequestValidationError
    fields = (".".join(part for part in detail["loc"][1:] if isinstance(part, str)) for detail in details)
    messages = [f"{name or 'the question'}: {detail['msg']}" for name, detail in zip(fields, details, strict=True)]
    return _problem(422, "InvalidRequestError", "; ".join(messages))


def _explain_http(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    if status not in (404, 405):
        return _problem(status, "InvalidRequestError", "the question can't be read as JSON")
    paths = "POST /v1/latest, /v1/ohlcv, /v1/indicators, /v1/compute; GET /v1/health, /metrics, /openapi.json"
    return _problem(status, "InvalidRequestError", f"there is no such path; the service has {paths}")


def _explain_failure(_: Request, error: Exception) -> Response:
    """Reveals nothing of an unexpected error, whose text may contain anything; the server logs it."""
    _log.error("a question failed (%s)", type(error).__name__)
    return _problem(500, "InternalError", FAILED)


def _problem(status: int, kind: str, message: str) -> Response:
    return Response(orjson.dumps({"error": {"kind": kind, "message": message}}), status, media_type=JSON)
