"""The environment of the stack's services: the stack's own, and one Prefect server for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flows.settings import Settings


def configured_api_url() -> str:
    """The Prefect server in ``PREFECT_API_URL``; empty when it is not set."""
    return os.environ.get("PREFECT_API_URL", "")


def environment(settings: Settings, api_url: str) -> Mapping[str, str]:
    """The variables of every service: this home and one Prefect server for all; everything else is passed on."""
    return {**os.environ, "FSTORE_HOME": str(settings.home), "PREFECT_API_URL": api_url, "PYTHONUNBUFFERED": "1"}
