"""Who can reach an address."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_this_machine(host_header: str) -> bool:
    """Whether a request asks for this machine by its own name, as its ``Host`` header tells.

    A page of another site could make a browser talk to this address by a name of its own.
    """
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:
        return False


def is_same_origin(host_header: str, origin: str | None, site: str | None) -> bool:
    """Whether no other site's page has asked: browsers always say where a request comes from that is no plain look.

    Args:
        origin, site: the headers ``Origin`` and ``Sec-Fetch-Site``. The second is the browser's own judgement, which
            no page can set; over plain HTTP from another machine there is only the first.
    """
    return site in (None, "same-origin", "none") and (origin is None or urlsplit(origin).netloc == host_header)
