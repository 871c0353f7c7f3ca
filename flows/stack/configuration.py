"""How this platform wants Prefect: quiet, local, and with its files in the home folder unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import MendableError
from flows.settings import Settings


class EngineError(MendableError):
    """Prefect can't be reached or started; the message says what to look at."""


def configure_prefect(settings: Settings) -> None:
    """Sets Prefect's defaults for this process and its children; call it before Prefect is imported.

    A variable that is set stays as it is: ``PREFECT_API_URL`` leads every run to that server. Profiles in
    ``~/.prefect`` count only when ``PREFECT_HOME`` names it: another project's server is not where these runs belong.
    While the local stack is up, runs belong to its server.
    """
    from flows.stack.status import running_api

    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # 20 s is too short for a cold, busy machine
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    if api := running_api(settings):
        defaults["PREFECT_API_URL"] = api
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_engine(settings: Settings) -> Iterator[None]:
    """What a flow that is called in this process, and its import, run within.

    Raises:
        EngineError: Prefect has no server.
    """
    configure_prefect(settings)
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # Prefect raises nothing more specific when it has no server
            raise
        raise EngineError(f"Prefect: {error} Is PREFECT_API_URL right, and its server up?") from error
