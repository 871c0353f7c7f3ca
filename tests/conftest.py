"""What every test needs: none of the user's own settings, and a home that is not the project's."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("load", deadline=None)  # how busy the machine is says nothing about the code
settings.load_profile("load")


# Tests that start whole stacks, others' servers or a browser, or kill process after process: `make drills`.
DRILLS = (
    "deployments/test_compose.py",
    "feature_repo/stores/test_cluster_flows.py",
    "feature_repo/test_registry_postgres.py",
    "flows/cli/test_history.py",
    "flows/engine/test_runners.py",
    "flows/deployed/test_server.py",
    "flows/stack/test_postgres.py",
    "flows/stack/test_stack.py",
    "flows/stream/test_crashes.py",
    "flows/processes/test_crashes.py",
    "flows/processes/test_races.py",
    "fsclient/dashboard/test_browser.py",
)


# Tests that need a Prefect server, which takes 20 s to start: one process runs them all.
ON_A_SERVER = (
    "flows/cli/test_demo.py",
    "flows/cli/test_jobs.py",
    "flows/cli/test_withdraw.py",
    "flows/deployed/test_ingest.py",
    "flows/materialize/test_flow.py",
    "flows/stack/test_abandoned.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).as_posix() in DRILLS:
            item.add_marker("drill")


def pytest_collection() -> None:
    gc.disable()  # until all is imported: there is next to nothing to collect


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries look at what is left when Python ends


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    """Freezes what earlier files imported and left behind, so that Python's collector no longer goes through it.

    It takes most of a second for a whole process of tests, at any moment: a call that has half a second would be late.
    """
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs a file's tests, so that what the file sets up is set up once; drills run one by one."""

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            name = file.removeprefix("tests/")
            return nodeid if name in DRILLS else "server" if name in ON_A_SERVER else file

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No ``FSTORE_*`` or ``PREFECT_*`` variable of the user's; a home and a quiet Prefect of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FSTORE_", "PREFECT_"))]:
            patch.delenv(name)
        home = tmp_path_factory.mktemp("session_home")
        patch.setenv("FSTORE_HOME", str(home))
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
        patch.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
        patch.setenv("DO_NOT_TRACK", "1")
        yield
