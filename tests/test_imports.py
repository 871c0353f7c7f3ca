"""The arrows of the house: which part may import which, read from every module's source."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator
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
    CATALOG: (),
    "feature_repo.indicators": (CATALOG,),
    "feature_repo.definitions": (CATALOG,),
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
    """Full names of all that a module imports, wherever in it: ``from a import b`` gives ``a`` and ``a.b``."""
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
    if importer == CATALOG:
        return name.partition(".")[0] in sys.stdlib_module_names
    if within(name, *FLOWS_ONLY):
        return within(importer, "flows")
    if within(name, *PARTS):
        allowed = next(rows for place, rows in HOUSE.items() if within(importer, place))
        return name == "feature_repo" or within(name, *allowed)
    return not within(name, "tests", "deployments")


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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if reads_environment(path.read_text()):
        assert str(path.relative_to(ROOT)) in ENVIRONMENT_READERS


def test_what_takes_seconds_to_import_is_imported_when_it_is_needed() -> None:
    """Feast, Prefect and great-expectations: a lookup waits for none of them."""
    top = {module_name(path): imported_at_once(path.read_text()) for path in MODULES}
    assert {name for name, found in top.items() if "great_expectations" in found} == {"flows.quality.suite"}
    assert {name for name, found in top.items() if "feast" in found} == {
        "feature_repo.definitions",
        *("feature_repo.stores.offline", "feature_repo.stores.feast.retrieval", "feature_repo.stores.online"),
    }  # fmt: skip
    assert not [name for name, found in top.items() if "prefect" in found and within(name, "flows.cli")]


def imported_at_once(source: str) -> set[str]:
    """Top packages that a module imports as soon as it is imported itself."""
    kinds = ast.Import | ast.ImportFrom | ast.With
    body: list[ast.stmt] = [node for node in parsed(source).body if isinstance(node, kinds)]
    return {name.partition(".")[0] for name in imports(ast.unparse(ast.Module(body=body, type_ignores=[])), "")}


# ----------------------------------------------------------------------------------------- it does find them


@pytest.mark.parametrize(
    ("importer", "line", "found"),
    [
        ("feature_repo.catalog", "import numpy", ["numpy"]),
        ("feature_repo.catalog", "from feature_repo import sessions", ["feature_repo", "feature_repo.sessions"]),
        ("feature_repo.catalog", "import math", []),
        ("feature_repo.indicators", "import talib", []),
        ("feature_repo.indicators", "from feature_repo.sessions import session_day",
         ["feature_repo.sessions", "feature_repo.sessions.session_day"]),
        ("feature_repo.indicators", "from feature_repo import stores", ["feature_repo.stores"]),
        ("feature_repo.stores.delta.tables", "def late():\n    import flows.compute.derive", ["flows.compute.derive"]),
        ("feature_repo.stores.delta.tables", "from ...sessions import is_open", []),
        ("feature_repo.stores.delta.tables", "from ... import kernel_inputs", ["feature_repo.kernel_inputs"]),
        ("feature_repo.sessions", "from fsclient import errors", ["fsclient", "fsclient.errors"]),
        ("feature_repo.repo", "from prefect import flow", ["prefect", "prefect.flow"]),
        ("fsclient.client", "from feature_repo.catalog import SYMBOLS", []),
        ("fsclient.client", "if True:\n    from prefect.client import x", ["prefect.client", "prefect.client.x"]),
        ("fsclient.client", "import great_expectations as gx", ["great_expectations"]),
        ("fsclient.client", "from flows.settings import load_settings",
         ["flows.settings", "flows.settings.load_settings"]),
        ("flows.compute.step", "from fsclient import errors", []),
        ("flows.compute.step", "import tests.conftest", ["tests.conftest"]),
    ],
)  # fmt: skip
def test_a_broken_arrow_is_found(importer: str, line: str, found: list[str]) -> None:
    assert broken_arrows(importer, line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import os\nhome = os.environ['HOME']", True),
        ("import os as system\nhome = system.getenv('HOME')", True),
        ("from os import environ as e\nhome = e['HOME']", True),
        ("import os\nhere = os.getcwd()", False),
        ("def read(environ): return environ['HOME']", False),
    ],
)
def test_reading_the_environment_is_found(line: str, found: bool) -> None:
    assert reads_environment(line) is found
