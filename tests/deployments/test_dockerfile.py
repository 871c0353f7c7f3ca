"""The Dockerfile, read as an engine reads it: what it copies exists, and what runs is not root."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from feature_repo.home import REPO

ROOT = REPO.parent
FILE = ROOT / "deployments" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined, comments dropped."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    instructions = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        word, _, rest = line.partition(" ")
        instructions.append((word, rest))
    return instructions


def ignored(path: str) -> bool:
    """Whether the build context leaves ``path`` out: the last pattern that matches it or a folder above it decides."""
    verdict = False
    for line in FILE.with_name("Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keep, pattern = pattern.startswith("!"), pattern.removeprefix("!")
            parts = Path(path).parts
            above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
            if any(fnmatch(part, pattern.removeprefix("**/")) for part in [*above, parts[-1]]):
                verdict = not keep
    return verdict


def test_every_instruction_is_one() -> None:
    known = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in instructions()} <= known
    assert instructions()[0][0] == "FROM"


def copied() -> list[str]:
    return [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_is_there_and_in_the_build_context(source: str) -> None:
    assert (ROOT / source).exists()
    assert not ignored(source)


@pytest.mark.parametrize("source", ["deployments/secrets", ".fstore", ".venv", ".git", "tests", "fstore.toml"])
def test_what_has_no_business_in_an_image_is_left_out(source: str) -> None:
    assert ignored(source)


def test_every_package_of_the_project_is_copied() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied())


def test_the_versions_are_the_tested_ones() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("-c constraints.txt" in rest for rest in installs)


def test_it_does_not_run_as_root() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users[-1:] == ["fstore"]
    last_copy = max(i for i, (word, _) in enumerate(instructions()) if word in ("COPY", "RUN"))
    assert instructions().index(("USER", "fstore")) > last_copy  # so what is copied is root's


def test_the_entrypoint_can_be_run() -> None:
    (entrypoint,) = [rest for word, rest in instructions() if word == "ENTRYPOINT"]
    path = ROOT / entrypoint.strip('[]"').removeprefix("/app/")
    assert os.access(path, os.X_OK)
