"""How this platform configures Prefect: quiet, local, and with its files in the home folder unless set otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.errors import FixableError
from flows.settings import Settings, require_task_runner


class EngineError(FixableError):
    """Prefect can't be reached or started; the message says what to check."""


def configure_prefect(settings: Settings) -> None:
    """Sets Prefect's defaults for this process and its children; call it before Prefect is imported.

    A variable that is set is left alone: ``PREFECT_API_URL`` sends every run to that server. Profiles in ``~/.prefect``
    count only when ``PREFECT_HOME`` names that folder, because runs do not belong on another project's server. While
    the local stack is up, runs belong to its server.
    """
    from flows.stack.state import running_api

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
    """The context in which a flow is imported and called in this process; for the main thread only.

    Where no server is configured, Prefect starts one as a child process and stops it when this process exits. From here
    on SIGTERM exits too (code 143), as otherwise that server would be left running.

    Raises:
        SettingsError: the package of the task runner is not installed.
        EngineError: Prefect has no server.
    """
    require_task_runner(settings.task_runner)
    configure_prefect(settings)
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # Prefect raises nothing more specific when it has no server
            raise
        raise EngineError(f"Prefect: {error} Check PREFECT_API_URL, and that its server is running.") from error


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
