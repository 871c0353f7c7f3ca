"""What ``pyproject.toml`` and ``constraints.txt`` say against what the sources import."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
OURS = ("feature_repo", "fsclient", "flows")

# Which extras a part of the sources may rely on, beside the client's own dependencies; the first row that fits counts.
PARTS: dict[str, tuple[str, ...]] = {
    "fsclient/service/": ("service",),
    "fsclient/dashboard/": ("dashboard",),
    "fsclient/": (),
    "feature_repo/definitions.py": ("flows",),
    "feature_repo/repo.py": ("flows",),  # Repo.feature_store() alone, which the flows call
    "feature_repo/stores/online.py": ("flows",),
    "feature_repo/stores/offline.py": ("flows",),
    "feature_repo/stores/feast/": ("flows",),
    "feature_repo/": (),
    "flows/": ("flows",),
}
PACKAGES = {"talib": "ta-lib", "yaml": "pyyaml"}
"""Modules whose package has another name."""


def requirements(extra: str | None) -> Iterator[Requirement]:
    """What an extra asks for, the extras that it includes in it; None: the client's dependencies."""
    for text in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            for included in sorted(requirement.extras):
                yield from requirements(included)
        else:
            yield requirement


def names(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for extra in (None, *extras) for requirement in requirements(extra)}


def imported(path: Path) -> set[str]:
    """The packages of others that a module imports, wherever in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module.partition(".")[0])
    return {canonicalize_name(PACKAGES.get(module, module)) for module in modules - sys.stdlib_module_names - {*OURS}}


def undeclared(relative: str, packages: set[str]) -> set[str]:
    """The packages that a module's part of the sources does not ask for."""
    extras = next(extras for part, extras in PARTS.items() if relative.startswith(part))
    return packages - names(*extras)


SOURCES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_import_is_a_declared_dependency_of_its_part() -> None:
    missing = {str(path.relative_to(ROOT)): undeclared(str(path.relative_to(ROOT)), imported(path)) for path in SOURCES}
    assert {path: packages for path, packages in missing.items() if packages} == {}


@pytest.mark.parametrize(
    ("path", "package"),
    [("fsclient/client.py", "dash"), ("fsclient/reading/stores.py", "prefect"), ("feature_repo/gaps.py", "feast"),
     ("fsclient/service/app.py", "dash"), ("flows/cli/main.py", "dash")],
)  # fmt: skip
def test_an_import_that_is_not_declared_is_found(path: str, package: str) -> None:
    assert undeclared(path, {package}) == {package}


def test_every_dependency_of_the_client_is_imported_by_the_client_or_what_it_reads() -> None:
    used = {package for path in SOURCES if path.parts[len(ROOT.parts)] != "flows" for package in imported(path)}
    assert names() - used == set()


BANNED = {"prefect", "great-expectations", "dash", "feast", "fastapi", "sqlalchemy", "plotly", "typer", "duckdb"}


def test_the_client_asks_for_nothing_of_the_extras() -> None:
    assert names() & BANNED == set()


def test_an_extra_is_complete_in_itself() -> None:
    """Each command works with the one extra that its message names."""
    assert names("flows") <= names("dashboard") & names("dask") & names("ray") & names("ccxt")
    assert names("all") >= names("flows", "service", "dashboard", "dask", "ray", "ccxt")
    assert names("demo") >= names("flows", "service", "dashboard")  # `fstore dashboard` follows `make demo`
    assert names("dev") >= names("demo", "dask", "ccxt")


ALL = [(extra, requirement) for extra in (None, *EXTRAS) for requirement in requirements(extra)]


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    build = [(None, Requirement(text)) for text in PYPROJECT["build-system"]["requires"]]
    pinned = [
        (extra, requirement, PINS.get(canonicalize_name(requirement.name))) for extra, requirement in [*ALL, *build]
    ]
    wrong = [
        f"{extra}: {requirement}, pinned {pin}"
        for extra, requirement, pin in pinned
        if pin not in requirement.specifier
    ]
    assert wrong == []


def test_the_pins_are_exact_sorted_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9A-Za-z.+]*", line)] == []
    assert [line.partition("==")[0] for line in lines] == sorted({line.partition("==")[0] for line in lines})


def test_two_extras_agree_on_a_bound() -> None:
    bounds: dict[str, set[str]] = {}
    for _, requirement in ALL:
        bounds.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: specifiers for name, specifiers in bounds.items() if len(specifiers) > 1} == {}


def test_the_python_that_is_needed_is_the_same_everywhere() -> None:
    oldest = re.search(r"\((\d+), (\d+)\)", (ROOT / ".ci" / "install.py").read_text())
    assert oldest
    version = f"{oldest[1]}.{oldest[2]}"
    assert PROJECT["requires-python"] == f">={version}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == version
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest[1]}{oldest[2]}"
    assert f"Python {version} or newer" in (ROOT / "README.md").read_text()
    image = re.search(r"^FROM python:([\d.]+)", (ROOT / "deployments" / "Dockerfile").read_text(), re.MULTILINE)
    assert image
    assert image[1] in SpecifierSet(PROJECT["requires-python"])


def test_the_readme_gives_the_reason_of_every_dependency() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("## What it is built on") : text.index("## Development")]
    documented = {canonicalize_name(name) for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)}
    assert documented == {canonicalize_name(requirement.name) for extra, requirement in ALL if extra != "dev"}
