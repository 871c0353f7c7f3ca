"""Who may look and who may change: nobody asks on the machine itself, everybody else needs the key.

The key is never part of a URL and never logged. A browser gives it once, in the body of a form, and gets a cookie
with a random name for this session; Prometheus gives it as ``Authorization: Bearer``. What changes something (a
released row) needs the key on the machine itself too.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from flask import Flask, Response, redirect, request

from fsclient.remote.access import is_loopback, is_same_origin, names_this_machine

COOKIE = "fstore_dashboard"
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 256
SHORTEST_KEY = 12
_FAILURE_S = 0.5  # what a wrong key costs, so that guessing takes its time
_LOGIN = "/login"
_OPEN = frozenset({_LOGIN, "/assets/style.css", "/assets/favicon.svg"})


class AccessError(ValueError):
    """The dashboard can't be served so; the message says what to set."""


def read_key(key: str | None, file: Path | None) -> str | None:
    """The key from a variable or a file; None when neither is given.

    Raises:
        AccessError: it is too short to be one, or the file can't be read. The message never shows it.
    """
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"the dashboard's key file {file} can't be read ({type(error).__name__})") from None
    if not key:
        return None
    if len(key) < SHORTEST_KEY:
        raise AccessError(
            f"the dashboard's key must have {SHORTEST_KEY} characters or more; try `openssl rand -hex 16`"
        )
    return key


@dataclass(kw_only=True)
class Access:
    """The rules of one server.

    Attributes:
        key: the key; None: nobody may change anything.
        open_to_see: whether looking needs no key: only where nobody but this machine can reach the server.
        clock: monotonic seconds.
    """

    key: str | None = field(repr=False)
    open_to_see: bool
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _sessions: OrderedDict[str, float] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def to(cls, host: str, key: str | None) -> Access:
        """The rules for a server that listens on ``host``.

        Raises:
            AccessError: others could reach it and there is no key.
        """
        if not is_loopback(host) and key is None:
            raise AccessError(
                f"--host {host} can be reached by others, so it needs a key: set FSTORE_DASHBOARD_KEY, or "
                "FSTORE_DASHBOARD_KEY_FILE to a file that holds it"
            )
        return cls(key=key, open_to_see=is_loopback(host))

    def is_key(self, given: str | None) -> bool:
        """Whether it is the key, in a time that tells nothing about how much of it is right."""
        if self.key is None or not given:
            return False
        right = hmac.compare_digest(given.encode(), self.key.encode())
        if not right:
            self.sleep(_FAILURE_S)
        return right

    def may_change(self, given: str | None) -> bool:
        """Whether who is asking now may change something: has logged in, or gives the key."""
        return self._has_session() or self.is_key(given)

    def protect(self, server: Flask) -> None:
        """Puts these rules before every route, those of callbacks and assets included."""
        server.before_request(self._check)
        server.add_url_rule(_LOGIN, "login", self._login, methods=["GET", "POST"])
        server.after_request(_harden)

    def _check(self) -> Any:
        if self.open_to_see:
            if not names_this_machine(request.host):
                return Response("This dashboard answers on this machine's own name only.", 403)
        elif request.path not in _OPEN and not self._is_known():
            wants_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
            return redirect(_login_of(request.full_path)) if wants_page else Response("A key is needed.", 401)
        if request.method not in ("GET", "HEAD") and not is_same_origin(
            request.host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        ):
            return Response("Only this dashboard's own pages may ask for that.", 403)
        return None

    def _is_known(self) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return self._has_session() or (scheme.lower() == "bearer" and self.is_key(given))

    def _has_session(self) -> bool:
        name = request.cookies.get(COOKIE, "")
        with self._lock:
            ends = self._sessions.get(name)
            return ends is not None and self.clock() < ends

    def _login(self) -> Any:
        wanted = _own_path(request.args.get("to", "/"))
        if request.method == "GET":
            return Response(_form(wanted, ""), mimetype="text/html")
        if not self.is_key(request.form.get("key")):
            return Response(_form(wanted, "That is not the key."), 403, mimetype="text/html")
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[name] = self.clock() + SESSION_S
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        answer = redirect(wanted)
        answer.set_cookie(
            COOKIE, name, max_age=int(SESSION_S), httponly=True, samesite="Strict", secure=request.is_secure
        )
        return answer


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "DENY")
    # With "no-referrer" a browser would post the form with "Origin: null", as if from elsewhere.
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if not request.path.startswith(("/assets/", "/_dash-component-suites/")):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _login_of(wanted: str) -> str:
    """Where the key is asked for, after which the page that was asked for is shown."""
    return f"{_LOGIN}?{urlencode({'to': _own_path(wanted)})}"


def _own_path(wanted: str) -> str:
    """A path of this server: ``//host/x``, ``/\\host`` and ``https://host/x`` lead to no other."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    return urlunsplit(("", "", "/" + parts.path.lstrip("/\\"), parts.query, ""))


def _form(wanted: str, problem: str) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Feature store</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/assets/style.css">
<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg"></head>
<body><main class="login"><form method="post" action="{escape(_login_of(wanted))}" class="card">
<h1>Feature store</h1><label for="key">Key of this dashboard</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<p class="problem" role="alert">{escape(problem)}</p><button type="submit">Open</button></form></main></body></html>"""
