"""Who may ask: nobody needs a key on the machine itself as long as none was ever made; everybody else needs one.

A key comes as ``Authorization: Bearer``, never in a URL, and is never logged. Every request passes here first, whatever
its path. Bodies are read here too, bounded in size and time, so that nobody fills the memory or holds a line open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

import orjson

from fsclient.errors import AuthenticationError
from fsclient.remote.access import is_loopback, is_same_origin, names_this_machine
from fsclient.remote.encoding import JSON
from fsclient.remote.problems import problem
from fsclient.service.keys import KeyFile, KeysError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 256 * 1024
"""Of a body; a thousand symbols and a thousand features take a tenth of it."""
BODY_S = 10.0
"""How long a body may take to arrive."""
OPEN_PATHS = frozenset({"/v1/health"})
_HARDEN = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

_log = logging.getLogger("feature_store_client")


class AccessError(ValueError):
    """The service can't be served so; the message says what to do."""


class Access:
    """The rules of one service.

    Args:
        keys: who may ask.
        local: whether only this machine can reach it.
    """

    def __init__(self, keys: KeyFile, *, local: bool) -> None:
        self._keys = keys
        self._local = local

    @classmethod
    def to(cls, host: str, keys: KeyFile) -> Access:
        """The rules for a service that listens on ``host``.

        Raises:
            AccessError: others could reach it and there is no key.
            KeysError: the keys can't be read.
        """
        local = is_loopback(host)
        if not keys.read() and not local:
            raise AccessError(f"{host} can be reached by others, so it needs a key: `fstore keys add NAME` makes one")
        return cls(keys, local=local)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: only this machine can ask, and no key was ever made."""
        return self._local and not self._keys.exists()

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers may be answered.

        Raises:
            KeysError: the keys can't be read.
        """
        if self.is_open:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._keys.name_of(given.strip()) is not None


class Gate:
    """What stands before the application."""

    def __init__(self, app: App, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: nothing here speaks it
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
            return _told(403, "this service answers on this machine's own name only")
        if not is_same_origin(host, headers.get("origin"), headers.get("sec-fetch-site")):
            return _told(403, "this service answers no other site's pages")
        if scope["path"] not in OPEN_PATHS:
            try:
                admitted = self._access.admits(headers)
            except KeysError as error:
                _log.error("nobody is admitted: %s", error)
                return _told(503, "the service can't read its keys; its own log says why", "FeatureStoreUnavailable")
            if not admitted:
                return problem(
                    AuthenticationError("the service needs a key that it knows: api_key=, or Authorization: Bearer KEY")
                )
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            return _told(415, "a question is JSON: send it as content-type: application/json (curl --json does)")
        return None


async def _read(receive: Receive, headers: Mapping[str, str]) -> bytes | tuple[int, bytes, dict[str, str]]:
    """The whole body, or why it is refused."""
    large = _told(413, f"a question has at most {MOST_BYTES:,} bytes")
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > MOST_BYTES:
        return large
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":  # gone
                    return _told(400, "the question was cut off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BYTES:
                    return large
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        return _told(408, f"the question did not arrive within {BODY_S:g} s")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for who reads it next."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _hardened(send: Send) -> Send:
    async def hardened(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HARDEN]}
        await send(message)

    return hardened


async def _refuse(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    told = {"content-type": JSON, "content-length": str(len(body)), "connection": "close", **headers}
    start = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def _told(status: int, message: str, kind: str = "InvalidRequestError") -> tuple[int, bytes, dict[str, str]]:
    return status, orjson.dumps({"error": {"kind": kind, "message": message}}), {}
