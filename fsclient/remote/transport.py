"""Questions to an HTTP service: one pool of connections per loop; replies as bytes or as one of our errors."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx

from fsclient.errors import CLOSED, FeatureStoreError, FeatureStoreUnavailable, InvalidRequestError
from fsclient.reading.per_loop import PerLoop
from fsclient.remote.access import is_loopback
from fsclient.remote.encoding import ARROW, JSON, ReplyError
from fsclient.remote.problems import read_problem

Reply: TypeAlias = bytes | FeatureStoreError
"""An answer, or the error that the service returned as its answer: it is healthy, so asking again changes nothing."""

_log = logging.getLogger("feature_store_client")
_CONNECTIONS = httpx.Limits(max_connections=100, max_keepalive_connections=50, keepalive_expiry=25.0)
"""The service keeps an idle connection for 30 s, so the client ends it first."""
_warned: set[str] = set()


class ConnectError(ConnectionError):
    """There is no connection to the service."""


class Transport:
    """Asks one service. A loop's connections end with it or with ``close``, whichever comes first.

    It uses httpx' transport without its client: cookies, redirects and a line in the log for each request are not
    wanted here. Waits are not bounded: each call's deadline ends its own, by cancellation. It goes to the host that the
    URL names and to no other: no proxy or credentials of the environment. TLS is verified by the system's certificates.

    Args:
        api_key: goes into a header and nowhere else.

    Raises:
        InvalidRequestError: ``url`` is not a service's URL. The message does not repeat it: it may hold a password.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        parsed = _parsed(url)
        self.url = str(parsed).rstrip("/")
        self._base = httpx.URL(self.url)
        self._headers = {"accept": ARROW, "accept-encoding": "identity"}
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                raise InvalidRequestError("api_key must be a key as `fstore keys add` prints it")
            self._headers["authorization"] = f"Bearer {api_key.strip()}"
            _warn_if_readable(parsed, self.url)
        self._verify: ssl.SSLContext | bool = ssl.create_default_context() if parsed.scheme == "https" else False
        self._pools = PerLoop(
            lambda: httpx.AsyncHTTPTransport(verify=self._verify, limits=_CONNECTIONS, trust_env=False),
            httpx.AsyncHTTPTransport.aclose,
        )
        self._closed = False

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """The reply to one question. What bounds it in time is its caller's.

        Raises:
            ConnectError, ReplyError: there is no reply; another attempt may succeed.
            FeatureStoreUnavailable: what answers there is not an fstore service.
        """
        content = json.dumps(body)  # the standard library's: a parameter may be a number of any size
        async with self._send("POST", path, content=content, headers={"content-type": JSON}) as response:
            reply = await response.aread()
        if response.status_code == httpx.codes.OK and response.headers.get("content-type") == ARROW:
            return reply
        return self._error(response.status_code, reply)

    @asynccontextmanager
    async def lines(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a reply that goes on.

        Raises:
            FeatureStoreError, OSError: it is refused, or lost.
        """
        async with self._send("GET", path) as response:
            if response.status_code != httpx.codes.OK:
                raise self._error(response.status_code, await response.aread())
            yield response.aiter_lines()

    async def close(self) -> None:
        """Ends all connections; those of loops that run in other threads a moment later."""
        self._closed = True
        await self._pools.close()

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, *, content: str | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A request, and the reply as it comes."""
        if self._closed:
            raise FeatureStoreUnavailable(CLOSED)
        url = self._base.copy_with(path=self._base.path.rstrip("/") + path)
        request = httpx.Request(method, url, content=content, headers={**self._headers, **(headers or {})})
        try:
            response = await self._pools[asyncio.get_running_loop()].handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise _translated(error) from error

    def _error(self, status: int, body: bytes) -> FeatureStoreError:
        error = read_problem(body)
        if error is not None:
            return error
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:  # of the service's own failure, or of a proxy before it
            raise ReplyError(f"status {status}")
        raise FeatureStoreUnavailable(
            f"{self.url} answers {status}, which is not how an fstore service answers; is it the right URL?"
        )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidRequestError(
            "url must be http:// or https:// with a host, as http://127.0.0.1:8060; a key is given as api_key= "
            "(the URL is not shown: it may hold a password)"
        )
    return parsed


def _warn_if_readable(parsed: httpx.URL, url: str) -> None:
    """A key over plain HTTP is not an error: the service has no TLS of its own, and in a network of one's own, such as
    that of containers, it is the ordinary way. The client cannot know such a network, so it warns once."""
    if parsed.scheme == "http" and not is_loopback(parsed.host) and url not in _warned:
        _warned.add(url)
        _log.warning("%s: key and answers can be read on the way; use https where the network is not yours", url)


def _translated(error: httpx.TransportError) -> OSError:
    unmade = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    return (ConnectError if unmade else ReplyError)(type(error).__name__)
