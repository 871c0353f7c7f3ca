"""Who may view the dashboard and who may change something through it.

On its own machine viewing needs no key; from anywhere else it does. Changes, such as releasing a row, always need it.
The key is never part of a URL and never logged: a browser sends it once in the body of a form and gets a cookie with a
random session id, and Prometheus sends it as ``Authorization: Bearer``.
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

from fsclient.remote.access import (
    AccessError,
    bearer_key,
    is_loopback,
    is_same_origin,
    names_this_machine,
    require_key,
)

COOKIE = "fstore_dashboard"
SESSION_S = 12 * 3600.0
MAX_SESSIONS = 256
MIN_KEY_LENGTH = 12
_FAILURE_S = 0.5  # delay after a wrong key, which makes guessing slow
_LOGIN = "/login"
_OPEN = frozenset({_LOGIN, "/assets/style.css", "/assets/favicon.svg"})


def read_key(key: str | None, file: Path | None) -> str | None:
    """The key from a variable or a file; None when neither is set.

    Raises:
        AccessError: the key is too short, or the file can't be read. The message never shows the key.
    """
    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"the dashboard's key file {file} can't be read ({type(error).__name__})") from None
    if not key:
        return None
    if len(key) < MIN_KEY_LENGTH:
        raise AccessError(
            f"the dashboard's key must have at least {MIN_KEY_LENGTH} characters; try `openssl rand -hex 16`"
        )
    return key


@dataclass(kw_only=True)
class Access:
    """The access rules of one server.

    Attributes:
        key: None: nobody may change anything.
        open_to_see: whether viewing needs no key: only where no other machine can reach the server.
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
            AccessError: other machines can reach it and there is no key.
        """
        remedy = "set FSTORE_DASHBOARD_KEY, or FSTORE_DASHBOARD_KEY_FILE to a file that holds it"
        require_key(host, has_key=key is not None, remedy=remedy)
        return cls(key=key, open_to_see=is_loopback(host))

    def is_key(self, candidate: str | None) -> bool:
        """Whether a candidate is the key; the time it takes reveals nothing about how much of it is right."""
        if self.key is None or not candidate:
            return False
        matches = hmac.compare_digest(candidate.encode(), self.key.encode())
        if not matches:
            self.sleep(_FAILURE_S)
        return matches

    def may_change(self, candidate: str | None) -> bool:
        """Whether the current request may change something: it has a session, or brings the key."""
        return self._has_session() or self.is_key(candidate)

    def protect(self, server: Flask) -> None:
        """Applies these rules to every route, including callbacks and assets."""
        server.before_request(self._check)
        server.add_url_rule(_LOGIN, "login", self._login, methods=["GET", "POST"])
        server.after_request(_harden)

    def _check(self) -> Any:
        if self.open_to_see:
            if not names_this_machine(request.host):
                return Response("This dashboard answers to this machine's own name only.", 403)
        elif request.path not in _OPEN and not self._is_known():
            wants_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
            return redirect(_login_url(request.full_path)) if wants_page else Response("A key is required.", 401)
        if request.method not in ("GET", "HEAD") and not is_same_origin(
            request.host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        ):
            return Response("Only this dashboard's own pages may send this request.", 403)
        return None

    def _is_known(self) -> bool:
        return self._has_session() or self.is_key(bearer_key(request.headers.get("Authorization", "")))

    def _has_session(self) -> bool:
        session = request.cookies.get(COOKIE, "")
        with self._lock:
            expiry = self._sessions.get(session)
            return expiry is not None and self.clock() < expiry

    def _login(self) -> Any:
        target = _own_path(request.args.get("to", "/"))
        if request.method == "GET":
            return Response(_form(target, ""), mimetype="text/html")
        if not self.is_key(request.form.get("key")):
            return Response(_form(target, "Wrong key."), 403, mimetype="text/html")
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = self.clock() + SESSION_S
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        response = redirect(target)
        response.set_cookie(
            COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="Strict", secure=request.is_secure
        )
        return response


def _harden(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("X-Frame-Options", "DENY")
    # With "no-referrer" a browser would post the form with "Origin: null", as if from elsewhere.
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if not request.path.startswith(("/assets/", "/_dash-component-suites/")):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _login_url(target: str) -> str:
    """The login page, which leads on to ``target``."""
    return f"{_LOGIN}?{urlencode({'to': _own_path(target)})}"


def _own_path(target: str) -> str:
    """A path on this server: ``//host/x``, ``/\\host`` and ``https://host/x`` lead to no other one."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    return urlunsplit(("", "", "/" + parts.path.lstrip("/\\"), parts.query, ""))


def _form(target: str, problem: str) -> str:
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Feature store</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/assets/style.css">
<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg"></head>
<body><main class="login"><form method="post" action="{escape(_login_url(target))}" class="card">
<h1>Feature store</h1><label for="key">Key of this dashboard</label>
<input id="key" name="key" type="password" autocomplete="current-password" autofocus required>
<p class="problem" role="alert">{escape(problem)}</p><button type="submit">Open</button></form></main></body></html>"""
