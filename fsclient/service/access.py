"""Who may ask the service: a key is needed, except on its own machine as long as no key was ever made.

A key is sent as ``Authorization: Bearer``, never in a URL, and is never logged. Every request passes here first,
whatever its path. Bodies are read here too, bounded in size and time, so that no request fills the memory or holds a
connection open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

import orjson

from fsclient.errors import AuthenticationError
from fsclient.remote.access import bearer_key, is_loopback, is_same_origin, names_this_machine, require_key
from fsclient.remote.encoding import JSON
from fsclient.remote.problems import problem
from fsclient.service.keys import KeyFile, KeysError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 256 * 1024
"""A thousand symbols and a thousand features take a tenth of it."""
BODY_TIMEOUT_S = 10.0
"""How long a body may take to arrive."""
OPEN_PATHS = frozenset({"/v1/health"})
_HARDEN = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

_log = logging.getLogger("feature_store_client")


class Access:
    """The access rules of one service.

    Args:
        keys: the keys that are accepted.
        local: whether only this machine can reach the service.
    """

    def __init__(self, keys: KeyFile, *, local: bool) -> None:
        self._keys = keys
        self._local = local

    @classmethod
    def to(cls, host: str, keys: KeyFile) -> Access:
        """The rules for a service that listens on ``host``.

        Raises:
            AccessError: other machines can reach it and there is no key.
            KeysError: the keys can't be read.
        """
        require_key(host, has_key=bool(keys.read()), remedy="`fstore keys add NAME` makes one")
        return cls(keys, local=is_loopback(host))

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: only this machine can reach the service, and no key was ever made."""
        return self._local and not self._keys.exists()

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers may be answered.

        Raises:
            KeysError: the keys can't be read.
        """
        if self.is_open:
            return True
        key = bearer_key(headers.get("authorization", ""))
        return key is not None and self._keys.name_of(key) is not None


class Gate:
    """The ASGI layer in front of the application."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket, which the service does not have
            await send({"type": "websocket.close", "code": 1008})
            return
        sent = _hardened(send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            body = await _read(receive, headers)
            if isinstance(body, bytes):
                receive = _replayed(body, receive)
            else:
                refusal = body
        if refusal is None:
            await self._app(scope, receive, sent)
        else:
            await _refuse(sent, *refusal)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, bytes, dict[str, str]] | None:
        host = headers.get("host", "")
        if self._access.is_open and not names_this_machine(host):
            return _refusal_of(403, "this service answers to this machine's own name only")
        if not is_same_origin(host, headers.get("origin"), headers.get("sec-fetch-site")):
            return _refusal_of(403, "this service does not answer requests from other sites' pages")
        if scope["path"] not in OPEN_PATHS:
            try:
                admitted = self._access.admits(headers)
            except KeysError as error:
                _log.error("no request is admitted: %s", error)
                return _refusal_of(503, "the service can't read its keys; its log says why", "FeatureStoreUnavailable")
            if not admitted:
                return problem(
                    AuthenticationError("the service requires a valid key: api_key=, or Authorization: Bearer KEY")
                )
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            return _refusal_of(415, "a question must be JSON: send content-type: application/json (curl --json does)")
        return None


async def _read(receive: Receive, headers: Mapping[str, str]) -> bytes | tuple[int, bytes, dict[str, str]]:
    """The whole body, or the response that refuses it."""
    too_large = _refusal_of(413, f"a question may have at most {MAX_BODY_BYTES:,} bytes")
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > MAX_BODY_BYTES:
        return too_large
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":  # the client disconnected
                    return _refusal_of(400, "the question was cut off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    return too_large
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        return _refusal_of(408, f"the question did not arrive within {BODY_TIMEOUT_S:g} s")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that returns a body that has been read already, for its next reader."""
    is_replayed = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _hardened(send: Send) -> Send:
    async def hardened(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HARDEN]}
        await send(message)

    return hardened


async def _refuse(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    fields = {"content-type": JSON, "content-length": str(len(body)), "connection": "close", **headers}
    start = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def _refusal_of(status: int, message: str, kind: str = "InvalidRequestError") -> tuple[int, bytes, dict[str, str]]:
    return status, orjson.dumps({"error": {"kind": kind, "message": message}}), {}
