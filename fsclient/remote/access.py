"""Who can reach an address, and which requests a server answers: for the dashboard, the service and its client."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


class AccessError(ValueError):
    """A server can't be started with this address and these keys; the message says what to set."""


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_key(host: str, *, has_key: bool, remedy: str) -> None:
    """Refuses to serve without a key on an address that other machines can reach.

    Raises:
        AccessError: ``host`` is such an address and there is no key; the message ends with the remedy.
    """
    if not has_key and not is_loopback(host):
        raise AccessError(f"--host {host} can be reached from other machines, so a key is required: {remedy}")


def names_this_machine(host_header: str) -> bool:
    """Whether a request's ``Host`` header names this machine itself.

    Otherwise a page of another site could make a browser reach this server under a name of its own.
    """
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:
        return False


def is_same_origin(host_header: str, origin: str | None, site: str | None) -> bool:
    """Whether a request does not come from another site's page; browsers state the origin of all but plain views.

    Args:
        origin, site: the headers ``Origin`` and ``Sec-Fetch-Site``. The second is the browser's own judgement, which
            no page can set; over plain HTTP from another machine there is only the first.
    """
    return site in (None, "same-origin", "none") and (origin is None or urlsplit(origin).netloc == host_header)


def bearer_key(authorization: str) -> str | None:
    """The key in an ``Authorization: Bearer`` header; None when it has another form."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
