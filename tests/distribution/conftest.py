"""The wheel, and environments that have nothing but it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_installer() -> ModuleType:
    """``.ci/install.py`` as a module."""
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment, and a folder outside of the project in which its commands run."""

    folder: Path
    workspace: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment with only the given variables, none of this process."""
        environ = {
            "HOME": str(self.workspace),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
        } | variables
        program = str(self.folder / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]], cwd=self.workspace, env=environ, capture_output=True, text=True, check=False
        )

    def packages(self) -> set[str]:
        """The names of what is installed."""
        listed = self.run(
            "python", "-c", "from importlib import metadata as m; print(*{d.name.lower() for d in m.distributions()})"
        )
        return set(listed.stdout.split())


@pytest.fixture(scope="session")
def uv() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs uv with pip's configuration; skips where uv or a registry is missing."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    program = shutil.which("uv", path=path)
    if program is None:
        pytest.skip("uv is not installed")
    settings: Mapping[str, str] = load_installer().pip_settings()
    environ = {**settings, **os.environ}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], env=environ, capture_output=True, text=True, check=False)

    probe = run("pip", "install", "--dry-run", "--refresh", "--no-deps", "--target", "/nonexistent", "six")
    if probe.returncode:
        pytest.skip(f"no package registry is reachable: {probe.stderr.strip().splitlines()[-1]}")
    return run


@pytest.fixture(scope="session")
def wheel(uv: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy of the project: nothing that an earlier build left is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("feature_repo", "fsclient", "flows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = uv("build", "--wheel", "-b", str(ROOT / "constraints.txt"), "-o", str(folder), str(source))
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def environment(
    uv: Callable[..., subprocess.CompletedProcess[str]], wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Environment]:
    """Makes an environment with the wheel and one of its extras; an empty name means no extra."""
    environments: dict[str, Environment] = {}

    def make(extra: str) -> Environment:
        if extra not in environments:
            folder = tmp_path_factory.mktemp(f"environment-{extra}")
            venv = uv("venv", "--python", sys.executable, str(folder / "venv"))
            assert venv.returncode == 0, venv.stderr
            package = f"fstore[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
            python = str(folder / "venv" / "bin" / "python")
            installed = uv("pip", "install", "--python", python, "-c", str(ROOT / "constraints.txt"), package)
            assert installed.returncode == 0, installed.stderr
            (folder / "workspace").mkdir()
            environments[extra] = Environment(folder=folder / "venv", workspace=folder / "workspace")
        return environments[extra]

    return make
