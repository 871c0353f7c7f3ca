"""What can go wrong with the local stack."""

from __future__ import annotations

from flows.errors import MendableError


class StackError(MendableError):
    """The stack can't be started, or not be ended; the message says why and what to do."""


class PortTakenError(StackError):
    """A port that the stack would listen on is somebody else's."""
