"""The environment, as far as the stack passes it on: its services get what it was given itself, and one server."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flows.settings import Settings


def given_api_url() -> str:
    """The Prefect server that the user has named; empty when there is none."""
    return os.environ.get("PREFECT_API_URL", "")


def environment(settings: Settings, api_url: str) -> Mapping[str, str]:
    """What every service is given: this home, and one Prefect server for all; what is set otherwise stays."""
    return {**os.environ, "FSTORE_HOME": str(settings.home), "PREFECT_API_URL": api_url, "PYTHONUNBUFFERED": "1"}
