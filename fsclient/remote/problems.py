"""Errors on the wire: ``{"error": {"kind": "UnknownSymbolError", "message": "..."}}``, the kind a class's name.

Both sides are here: what the service writes, the client reads back as the same class with the same message.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from fsclient.errors import (
    AuthenticationError,
    CircuitOpenError,
    FeatureStoreError,
    FeatureStoreUnavailable,
    InvalidRequestError,
    RequestTimeout,
    StaleDataError,
    UnknownFeatureError,
    UnknownSymbolError,
)

STATUS: Mapping[type[FeatureStoreError], int] = {
    AuthenticationError: 401,
    UnknownSymbolError: 404,
    UnknownFeatureError: 404,
    InvalidRequestError: 422,
    StaleDataError: 409,
    CircuitOpenError: 503,
    RequestTimeout: 504,
    FeatureStoreUnavailable: 503,
}
FAILED = "the service failed; its own log says at what"
"""All that a caller learns of an unexpected error."""
_KINDS = {kind.__name__: kind for kind in STATUS}


def problem(error: FeatureStoreError) -> tuple[int, bytes, dict[str, str]]:
    """An error as status, body and headers."""
    details: dict[str, str | float] = {"kind": type(error).__name__, "message": str(error)}
    headers: dict[str, str] = {}
    if isinstance(error, CircuitOpenError):
        details["retry_after_s"] = round(error.retry_after_s, 3)
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    elif isinstance(error, AuthenticationError):
        headers["www-authenticate"] = "Bearer"
    return STATUS.get(type(error), 500), orjson.dumps({"error": details}), headers


def read_problem(body: bytes) -> FeatureStoreError | None:
    """The error that a body describes; None when it is not one of the service's own."""
    try:
        details = orjson.loads(body)["error"]
        kind, message = _KINDS[details["kind"]], str(details["message"])
        if kind is CircuitOpenError:
            return CircuitOpenError(message, retry_after_s=float(details.get("retry_after_s", 0.0)))
    except (ValueError, KeyError, TypeError):
        return None
    return kind(message)
