"""The arrows of the house: which part may import which, read from every module's source."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("feature_repo", "fsclient", "flows")
MODULES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))

CATALOG = "feature_repo.catalog"
# Market time and freshness live beside the catalog, because the client needs them too.
TIMES = ("feature_repo.moments", "feature_repo.sessions", "feature_repo.gaps", "feature_repo.freshness")
# What of the house a module may import; the first row that it lies in counts.
HOUSE: dict[str, tuple[str, ...]] = {
    "feature_repo.agreement": (),
    "feature_repo.kernels": ("feature_repo.agreement",),
    "feature_repo.kinds": ("feature_repo.kernels",),
    CATALOG: (CATALOG, "feature_repo.kinds"),
    "feature_repo.convergence": ("feature_repo.agreement",),
    "feature_repo.indicators": (CATALOG, *TIMES, "feature_repo.kernels", "feature_repo.convergence"),
    "feature_repo.meaning": (CATALOG,),
    "feature_repo.definitions": (CATALOG, "feature_repo.meaning"),
    **dict.fromkeys(TIMES, (CATALOG, *TIMES)),
    "feature_repo.stores": (
        CATALOG,
        *TIMES,
        "feature_repo.stores",
        "feature_repo.repo",
        "feature_repo.home",
    ),  # ``repo`` reads the stores' settings
    "feature_repo": ("feature_repo",),
    "fsclient": ("feature_repo", "fsclient"),
    "flows": PARTS,
}
# The rooms of ``flows/``: what each may import of the others. Pure computation at the bottom, commands at the top.
_RUN = ("errors", "settings", "sources", "ledger", "quality", "compute", "runs")
ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "extras": (),
    "sources": ("errors",),
    "ledger": ("errors",),
    "quality": (),  # pure, as is ``compute``: no ledger, settings, Prefect, nor a store that writes
    "compute": ("quality",),
    "settings": ("errors", "ledger"),
    "runs": ("errors", "settings", "ledger", "quality", "compute"),
    "inspect": _RUN,
    "engine": ("errors", "settings", "ledger", "runs"),
    "apply": ("compute",),
    **dict.fromkeys(("ingest", "materialize", "backfill", "verify", "maintain"), (*_RUN, "engine")),
    "stream": (*_RUN, "engine"),
    "alerts": (*_RUN, "engine", "inspect"),
    "stack": ("errors", "settings"),
}
# These bring the rooms together, so they may import all of them.
COMPOSERS = ("cli", "deployed", "__main__")
# The client's own packages: they install with it, and so neither extras nor what extras need may be imported there.
CLIENT_EXTRAS = ("fsclient.service", "fsclient.dashboard", "fastapi", "starlette", "dash", "plotly", "sqlalchemy")
# What ``flows`` may import of the client: plain words and errors; its extras are for modules that put rooms together.
CLIENT_WORDS = ("fsclient.errors", "fsclient.metrics")
# Delta Lake lies behind a seam: what asks for the offline tables knows ``OfflineTables``, and these open them.
BACK_END = "feature_repo.stores.delta"
BACK_END_USERS = ("feature_repo.stores", "feature_repo.repo")
STORES_THAT_WRITE = ("feature_repo.stores.tables", "feature_repo.stores.delta.tables",
                     "feature_repo.stores.redis.publish",
                     "feature_repo.stores.redis.doubt", "feature_repo.stores.redis.connection",
                     "feature_repo.stores.online", "feature_repo.stores.offline")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An arrow through a wall, and why it is there."""

    importer: str
    imported: str
    reason: str


DOORS: tuple[Door, ...] = (
    Door(importer="flows.stream.slow_path", imported="flows.ingest",
         reason="what is not ordinary is decided in one place, the batch flow's"),
    Door(importer="flows.stream.slow_path", imported="flows.materialize", reason="as above"),
    Door(importer="flows.stream.loaded", imported="flows.materialize",
         reason="a symbol is up to date before its live bars are taken"),
)  # fmt: skip
FLOWS_ONLY = ("prefect", "great_expectations")
ENVIRONMENT_READERS = {
    "flows/settings.py",
    "flows/stack/configuration.py",  # sets Prefect's defaults
    "flows/stack/environment.py",  # hands its own to the services it starts
    "feature_repo/repo.py",  # Feast's own expansion of variables in feature_store.yaml
}
ENVIRONMENT = {"environ", "environb", "getenv", "putenv", "unsetenv"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(source: str) -> ast.Module:
    """The syntax tree. A collection in mid-parse may run finalizers that parse too: CPython 3.11 fails."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


def imports(source: str, importer: str) -> Iterator[str]:
    """Full names of everything that a module imports, at any depth: ``from a import b`` means ``a`` and ``a.b``."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = importer.split(".")[: -node.level]
                base = ".".join([*package, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def broken_arrows(importer: str, source: str) -> list[str]:
    """The imports of a module that the house does not have."""
    return sorted({name for name in imports(source, importer) if not _may_import(importer, name)})


def _may_import(importer: str, name: str) -> bool:
    if within(importer, CATALOG) and not within(name, *PARTS):
        return name.partition(".")[0] in sys.stdlib_module_names
    if within(name, *FLOWS_ONLY):
        return within(importer, "flows")
    if within(name, BACK_END):
        return within(importer, *BACK_END_USERS)
    if any(within(importer, door.importer) and within(name, door.imported) for door in DOORS):
        return True
    if within(importer, "fsclient") and not within(importer, *CLIENT_EXTRAS) and within(name, *CLIENT_EXTRAS):
        return False
    if within(importer, "flows") and room_of(importer) not in COMPOSERS and not _is_in_reach(importer, name):
        return False
    if within(name, *PARTS):
        allowed = next(rows for place, rows in HOUSE.items() if within(importer, place))
        return name == "feature_repo" or within(name, *allowed)
    return not within(name, "tests", "deployments")


def room_of(name: str) -> str:
    """The room of ``flows`` that a module lies in; empty for ``flows`` itself."""
    return ".".join(name.split(".")[1:2])


def _is_in_reach(importer: str, name: str) -> bool:
    """Whether a room of ``flows`` may import a module."""
    room = room_of(importer)
    if room in ("compute", "quality") and within(name, "fsclient", *STORES_THAT_WRITE):
        return False
    if within(name, "fsclient"):
        return name == "fsclient" or within(name, *CLIENT_WORDS)
    if within(name, "flows"):
        return not room or room_of(name) in ("", room, *ROOMS[room])
    return True


def reads_environment(source: str) -> bool:
    """Whether a module touches ``os.environ`` or ``os.getenv``, under whatever name it imports them."""
    nodes = [*ast.walk(parsed(source))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names = {a.name for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "os" for a in node.names}
    return bool((attributes | names) & ENVIRONMENT)


# ----------------------------------------------------------------------------------------------- the house


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_the_house_allows(path: Path) -> None:
    assert broken_arrows(module_name(path), path.read_text()) == []


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.importer} to {door.imported}")
def test_a_door_in_a_wall_is_used(door: Door) -> None:
    """One that nobody goes through any longer is walled up."""
    assert is_used(door, {module_name(path): path.read_text() for path in MODULES})


def is_used(door: Door, sources: Mapping[str, str]) -> bool:
    """Whether one of the modules (name -> source) imports through the door."""
    users = {name: source for name, source in sources.items() if within(name, door.importer)}
    return any(within(name, door.imported) for user, source in users.items() for name in imports(source, user))


def test_every_room_has_a_row() -> None:
    assert rooms_and_rows_apart(module_name(path) for path in MODULES) == set()


def rooms_and_rows_apart(modules: Iterable[str]) -> set[str]:
    """The rooms of ``flows`` without a row, and the rows without a room."""
    rooms = {room_of(name) for name in modules if within(name, "flows")} - {""}
    return rooms ^ {*ROOMS, *COMPOSERS}


def test_no_arrow_points_up() -> None:
    assert cycle_in(ROOMS) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle_in({module_name(path): needed(module_name(path), path.read_text()) for path in MODULES}) == []


def needed(importer: str, source: str) -> set[str]:
    """The modules of the house that a module imports when it runs, not only for its type hints."""
    names = {module_name(path) for path in MODULES}
    imported = {name for name in imports(without_hints(source), importer) if name in names}
    return {name for name in imported if not within(importer, name)}  # a package is there before what lies in it


def without_hints(source: str) -> str:
    """The source less its ``if TYPE_CHECKING`` blocks."""
    tree = parsed(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def cycle_in(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """The names along a circle of arrows; none when there is no circle."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


INSPECT = [path for path in MODULES if within(module_name(path), "flows.inspect")]


@pytest.mark.parametrize("path", INSPECT, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_inspects_writes_nothing(path: Path) -> None:
    assert writes(path.read_text()) == []


def writes(source: str) -> list[str]:
    """The calls of a module that write to the ledger, the tables or the online store."""
    calls = [node.func for node in ast.walk(parsed(source)) if isinstance(node, ast.Call)]
    names = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
    appends = {
        ast.unparse(func)
        for func in calls
        if isinstance(func, ast.Attribute) and func.attr == "append" and "tables" in ast.unparse(func.value)
    }
    return sorted((names & (ledger_writers() | STORE_WRITERS)) | appends)


STORE_WRITERS = {
    *("publish", "publish_window", "mark_doubt", "lift_doubt", "forget_revisions", "hset", "hdel", "delete", "eval"),
    *("cast_doubt", "end_doubt", "restate_doubts", "store_bars", "store_quarantine", "note_series", "list_symbol"),
}


@cache
def ledger_writers() -> frozenset[str]:
    """The ledger's public methods that write."""
    trees = [parsed(path.read_text()) for path in MODULES if within(module_name(path), "flows.ledger")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return frozenset(
        node.name for node in functions if "self._writing()" in ast.unparse(node) and not node.name.startswith("_")
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if reads_environment(path.read_text()):
        assert str(path.relative_to(ROOT)) in ENVIRONMENT_READERS


def test_what_takes_seconds_to_import_is_imported_when_it_is_needed() -> None:
    """Feast, Prefect and great-expectations: a lookup waits for none of them."""
    top = {module_name(path): imported_at_once(path.read_text()) for path in MODULES}
    assert {name for name, modules in top.items() if "great_expectations" in modules} == {"flows.quality.suite"}
    assert {name for name, modules in top.items() if "feast" in modules} == {
        "feature_repo.definitions",
        *("feature_repo.stores.offline", "feature_repo.stores.feast.retrieval", "feature_repo.stores.online"),
    }  # fmt: skip
    assert not [name for name, modules in top.items() if "prefect" in modules and within(name, "flows.cli")]


def imported_at_once(source: str) -> set[str]:
    """Top packages that a module imports as soon as it is imported itself."""
    kinds = ast.Import | ast.ImportFrom | ast.With
    body: list[ast.stmt] = [node for node in parsed(source).body if isinstance(node, kinds)]
    return {name.partition(".")[0] for name in imports(ast.unparse(ast.Module(body=body, type_ignores=[])), "")}


# ----------------------------------------------------------------------------------------- it does find them


@pytest.mark.parametrize(
    ("importer", "line", "broken"),
    [
        ("feature_repo.catalog", "import numpy", ["numpy"]),
        ("feature_repo.catalog", "from feature_repo import sessions", ["feature_repo.sessions"]),
        ("feature_repo.catalog", "import math", []),
        ("feature_repo.indicators", "import talib", []),
        ("feature_repo.kernels", "from feature_repo.catalog import Indicator",
         ["feature_repo.catalog", "feature_repo.catalog.Indicator"]),
        ("feature_repo.kinds", "from feature_repo.kernels import sma", []),
        ("feature_repo.indicators", "from feature_repo import stores", ["feature_repo.stores"]),
        ("feature_repo.stores.delta.tables", "def late():\n    import flows.compute.derive", ["flows.compute.derive"]),
        ("feature_repo.stores.delta.tables", "from ...sessions import is_open", []),
        ("feature_repo.repo", "from feature_repo.stores.delta.tables import DeltaTables", []),
        ("flows.runs.store", "from feature_repo.stores.delta.tables import DeltaTables",
         ["feature_repo.stores.delta.tables", "feature_repo.stores.delta.tables.DeltaTables"]),
        ("fsclient.reading.offline", "from feature_repo.stores.delta import files",
         ["feature_repo.stores.delta", "feature_repo.stores.delta.files"]),
        ("fsclient.reading.offline", "from feature_repo.stores.window import column", []),
        ("feature_repo.stores.delta.tables", "from ... import indicators", ["feature_repo.indicators"]),
        ("feature_repo.sessions", "from fsclient import errors", ["fsclient", "fsclient.errors"]),
        ("feature_repo.repo", "from prefect import flow", ["prefect", "prefect.flow"]),
        ("fsclient.client", "from feature_repo.catalog import SYMBOLS", []),
        ("fsclient.client", "if True:\n    from prefect.client import x", ["prefect.client", "prefect.client.x"]),
        ("fsclient.client", "import great_expectations as gx", ["great_expectations"]),
        ("fsclient.client", "from flows.settings import load_settings",
         ["flows.settings", "flows.settings.load_settings"]),
        ("flows.compute.step", "import tests.conftest", ["tests.conftest"]),
        # pure computation
        ("flows.compute.derive", "from flows.ledger import Ledger", ["flows.ledger", "flows.ledger.Ledger"]),
        ("flows.compute.derive", "from feature_repo.stores.redis.publish import publish",
         ["feature_repo.stores.redis.publish", "feature_repo.stores.redis.publish.publish"]),
        ("flows.compute.derive", "from flows.quality import Verdict", []),
        ("flows.quality.gate", "from flows.settings import Settings", ["flows.settings", "flows.settings.Settings"]),
        ("flows.quality.gate", "from flows.compute import derive", ["flows.compute", "flows.compute.derive"]),
        ("flows.quality.gate", "from fsclient import errors", ["fsclient", "fsclient.errors"]),
        # a run's books
        ("flows.runs.store", "from flows.materialize import flow", ["flows.materialize", "flows.materialize.flow"]),
        ("flows.runs.store", "from flows.ledger import Ledger", []),
        # one flow's folder and another's, and the dashboard
        ("flows.backfill.symbol", "from flows.verify import flow", ["flows.verify", "flows.verify.flow"]),
        ("flows.backfill.symbol", "import fsclient.dashboard.app", ["fsclient.dashboard.app"]),
        ("flows.backfill.symbol", "import flows.runs.store", []),
        ("flows.stream.session", "import flows.ingest.ingest", ["flows.ingest.ingest"]),
        ("flows.stream.slow_path", "import flows.ingest.ingest", []),
        # upwards
        ("flows.ledger.runs", "from flows.runs.plan import Job", ["flows.runs.plan", "flows.runs.plan.Job"]),
        ("flows.inspect.status", "from flows.engine import names", ["flows.engine", "flows.engine.names"]),
        ("flows.cli.jobs", "from flows.materialize import flow", []),
        # the client without its extras
        ("fsclient.client", "from fsclient.service import app", ["fsclient.service", "fsclient.service.app"]),
        ("fsclient.client", "import fsclient.dashboard.theme", ["fsclient.dashboard.theme"]),
        ("fsclient.metrics.store", "def late():\n    import sqlalchemy", ["sqlalchemy"]),
        ("fsclient.client", "from fastapi import FastAPI", ["fastapi", "fastapi.FastAPI"]),
        ("fsclient.client", "import dash", ["dash"]),
        ("fsclient.service.app", "from fastapi import FastAPI", []),
        ("fsclient.dashboard.app", "import dash", []),
    ],
)  # fmt: skip
def test_a_broken_arrow_is_found(importer: str, line: str, broken: list[str]) -> None:
    assert broken_arrows(importer, line) == broken


@pytest.mark.parametrize(
    ("line", "is_read"),
    [
        ("import os\nhome = os.environ['HOME']", True),
        ("import os as system\nhome = system.getenv('HOME')", True),
        ("from os import environ as e\nhome = e['HOME']", True),
        ("import os\nhere = os.getcwd()", False),
        ("def read(environ): return environ['HOME']", False),
    ],
)
def test_reading_the_environment_is_found(line: str, is_read: bool) -> None:
    assert reads_environment(line) is is_read


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("ledger.begin('x', parameters={})", ["begin"]),
        ("settings.ledger().list_series(rows)", ["list_series"]),
        ("publish(client, project, symbol, rows)", ["publish"]),
        ("tables.append('bars', rows)", ["tables.append"]),
        ("rows.append(row)\nledger.runs()\ntables.read('bars')", []),
    ],
)
def test_writing_is_found(line: str, calls: list[str]) -> None:
    assert writes(line) == calls


def test_a_circle_is_found() -> None:
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["a"]}) != []
    hint = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flows.runs import store\n"
    assert needed("flows.ledger", hint + "import flows.errors") == {"flows.errors"}
    assert needed("flows.ledger", "def late():\n    from flows.runs import store") == {"flows.runs", "flows.runs.store"}


def test_an_arrow_up_is_found() -> None:
    assert cycle_in({**ROOMS, "ledger": ("errors", "runs")}) != []


def test_a_room_without_a_row_and_a_row_without_a_room_are_found() -> None:
    modules = [module_name(path) for path in MODULES]
    assert rooms_and_rows_apart([*modules, "flows.attic.trunk"]) == {"attic"}
    assert rooms_and_rows_apart(name for name in modules if not within(name, "flows.verify")) == {"verify"}


def test_a_door_that_is_not_used_is_found() -> None:
    door = Door(importer="flows.stream.slow_path", imported="flows.ingest", reason="a test")
    assert is_used(door, {"flows.stream.slow_path": "def late():\n    from flows.ingest.ingest import ingest"})
    assert not is_used(door, {"flows.stream.slow_path": "from flows.runs import store"})
    assert not is_used(door, {"flows.stream.session": "import flows.ingest.ingest"})
