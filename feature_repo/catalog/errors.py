"""A name that the catalog does not have, and the names nearest to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question that offers the names nearest to an unknown one, whatever its case; empty when none is near."""
    spelled: dict[str, str] = {}
    for correct in known:
        spelled.setdefault(correct.casefold(), correct)
    near = difflib.get_close_matches(str(name)[:64].casefold(), list(spelled), n=3, cutoff=0.5)
    return f" Did you mean {', '.join(spelled[key] for key in near)}?" if near else ""


def _printable(name: object) -> str:
    """A name as an error shows it: escaped, and no longer than a line."""
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."


class CatalogError(LookupError):
    """A name that the catalog does not have; the message says which, and the nearest that it has.

    Attributes:
        kind: what was looked up: ``"symbol"``, ``"timeframe"``, ``"feature"`` or ``"indicator kind"``.
        name: the name that was asked for.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], remedy: str) -> None:
        super().__init__(f"unknown {kind} {_printable(name)}.{did_you_mean(name, known)} {remedy}")
        self.kind = kind
        self.name = name
