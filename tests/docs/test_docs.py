"""README.md and docs/ are run as written, on a home of their own, and what they show is what comes out.

Every block is run in the order of the pages: `console` blocks line by line ("$ command", then its output), `python`
blocks as cells of one notebook a page; a `text` block right after a `python` block is what that prints. In outputs
"..." stands for anything left out, and spaces count as one. A comment above a block says more::

    <!-- file: bars.csv -->      the block is a file of that name
    <!-- exits 1 -->             the command fails, with that code
    <!-- not run: reason -->     as it says
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to run, and what it must print; ``expected`` None where the page does not show it."""

    page: str
    line: int
    kind: str
    source: str
    expected: str | None
    code: int = 0


def steps(page: Path, workspace: Path) -> Iterator[Step]:
    """The steps of a page in order; its files are written on the way."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        note, kind, body = block["note"] or "", block["kind"], block["body"]
        line = text.count("\n", 0, block.start("body")) + 1
        where: dict[str, Any] = {"page": str(page.relative_to(ROOT)), "line": line, "kind": kind}
        if note.startswith("not run: "):
            continue
        if note.startswith("file: "):
            (workspace / note.removeprefix("file: ")).write_text(body)
        elif kind == "console":
            code = int(note.removeprefix("exits ")) if note.startswith("exits ") else 0
            for command in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                source, _, expected = command.partition("\n")
                yield Step(**where, source=_as_made(source), expected=expected.strip() or None, code=code)
        elif kind == "python":
            shown = re.match(r"\n+```text\n(.*?)^```$", text[block.end() :], re.DOTALL | re.MULTILINE)
            yield Step(**where, source=body, expected=shown[1] if shown else None)


def same(expected: str, printed: str) -> bool:
    """Whether a page shows what was printed: spaces count as one, and a table's rule may have any length."""
    shown, actual = (" ".join(re.sub("─+", "─", text).split()) for text in (expected, printed))
    return bool(re.fullmatch(".*?".join(re.escape(part.strip()) for part in shown.split("...")), actual))


def _as_made(command: str) -> str:
    """`make target` as the command in that target's recipe: the environment is set up, or this would not run."""
    target = re.fullmatch(r"make (\w+)", command)
    if not target:
        return command
    recipe = re.search(rf"^{target[1]}:.*\n\t@\$\(BIN\)/(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe, f"the Makefile has no one-line recipe for {target[1]}"
    return recipe[1]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder that looks like the project's root from inside, and that pages may write to."""
    for name in ("feature_repo", "deployments"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def run(workspace: Path) -> Iterator[Callable[[Step], dict[str, Any]]]:
    """Runs a step in one interpreter for all of them, with an empty home and nobody's settings."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("FSTORE_", "PREFECT_"))}
    environ |= {"FSTORE_HOME": str(workspace / "home"), "PATH": f"{Path(sys.executable).parent}:{environ['PATH']}"}
    pipe = subprocess.PIPE
    interpreter = [sys.executable, str(Path(__file__).with_name("interpreter.py"))]
    with subprocess.Popen(interpreter, cwd=workspace, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
        questions, answers = process.stdin, process.stdout
        assert questions
        assert answers

        def answer(step: Step) -> dict[str, Any]:
            block = {"page": step.page, "kind": step.kind, "source": step.source}
            print(json.dumps(block), file=questions, flush=True)
            answered: dict[str, Any] = json.loads(answers.readline())
            return answered

        yield answer
        questions.close()


def test_the_documents_run_as_written(
    workspace: Path, run: Callable[[Step], dict[str, Any]], subtests: pytest.Subtests
) -> None:
    for page in PAGES:
        for step in steps(page, workspace):
            with subtests.test(f"{step.page}:{step.line}"):
                result = run(step)
                if result["code"] != step.code:
                    pytest.fail(f"{step.source}\nended with {result['code']}:\n{result['printed']}", pytrace=False)
                if step.expected is not None and not same(step.expected, result["printed"]):
                    shown = f"prints\n{result['printed']}\nand the page shows\n{step.expected}"
                    pytest.fail(f"{step.source}\n{shown}", pytrace=False)
