"""Where messages go: a webhook, an e-mail, a chat, each by an Apprise URL, which holds secrets and is never shown."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Protocol

from flows.settings import SettingsError

# They log recipients, and paths that are secrets.
_LOG_LEVELS = {"apprise": logging.CRITICAL, "urllib3.connectionpool": logging.INFO}


class ChannelError(RuntimeError):
    """A message was not delivered. The error holds nothing of the channel's URL."""


class Channel(Protocol):
    """One way to deliver messages."""

    @property
    def name(self) -> str:
        """The channel's name in the ledger; one URL has one name everywhere."""

    def send(self, title: str, body: str) -> None:
        """Raises: ChannelError."""


class AppriseChannel:
    """A channel by URL: ``json://host/path`` (webhook; ``jsons`` over TLS), ``mailto://``, ``slack://`` and many more.

    Raises:
        SettingsError: the URL is invalid; it is not shown.
    """

    def __init__(self, url: str, position: int = 1) -> None:
        import apprise

        for name, level in _LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise SettingsError(
                f"alert_urls: number {position} is not a URL that Apprise knows, such as json://host/path or "
                "mailto://user:password@host (the value is not shown: it may hold a password)"
            )
        kind = url.partition(":")[0].lower()
        self.name = f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"

    def send(self, title: str, body: str) -> None:
        """Sends one message, plain text."""
        if not self._apprise.notify(title=title, body=body, body_format="text"):
            raise ChannelError(f"{self.name} did not accept the message")

    def __repr__(self) -> str:
        return f"AppriseChannel({self.name})"


def channels_of(urls: Sequence[str]) -> list[Channel]:
    """A channel for each URL.

    Raises:
        SettingsError: a URL is invalid; the message names it by its position.
    """
    return [AppriseChannel(url, position) for position, url in enumerate(urls, 1)]
