"""What README.md and docs/ point at exists: files, headings, make targets, settings, dependencies."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest

from feature_repo.catalog import WINDOW_BARS
from flows.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _CODE.sub("", page.read_text())


LINKS = [(page, match[1], match[2] or "") for page in PAGES for match in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target", "anchor"), LINKS, ids=lambda part: getattr(part, "name", part))
def test_a_link_leads_somewhere(page: Path, target: str, anchor: str) -> None:
    there = (page.parent / target).resolve() if target else page
    assert there.exists(), f"{page.name} links to {target}, which is not there"
    assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}; {sorted(anchors(there))}"


def test_a_recipe_changes_lines_that_are_there() -> None:
    """What a diff in the guides removes, or shows around it, stands in a file that its page names."""
    for page in PAGES:
        text = page.read_text()
        named = {path for path in re.findall(r"`([\w/]+\.(?:py|yaml))`", text) if (ROOT / path).is_file()}
        sources = "".join((ROOT / path).read_text() for path in named)
        for block in re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                if not line.startswith("+"):
                    assert line[1:] in sources, f"{page.name}: {line}"


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {(page.parent / target).resolve() for page, target, _ in LINKS if page == PAGES[0]}
    assert linked >= set(PAGES[1:])


def test_the_readme_lists_the_make_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert set(re.findall(r"^\| `make (\w+)`", PAGES[0].read_text(), re.MULTILINE)) == targets


def test_the_readme_gives_a_reason_for_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}  # type: ignore[index]
    table = PAGES[0].read_text().partition("| Dependency |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == needed


def test_every_setting_is_described() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [f.name for f in fields(Settings) if f"| `{PREFIX}{f.name.upper()}` | `{f.name}` |" not in text] == []


def test_the_picture_is_whole_and_tells_the_windows_length() -> None:
    svg = (ROOT / "docs" / "architecture.svg").read_text()
    assert f"last {WINDOW_BARS} bars" in "".join(ElementTree.fromstring(svg).itertext())  # noqa: S314  # our own file
    assert f"last {WINDOW_BARS} closed bars" in (ROOT / "docs" / "lookups.md").read_text()


def test_files_that_the_documents_name_exist() -> None:
    """A path in backticks that begins with a folder of the project."""
    folders = r"(?:feature_repo|flows|fsclient|deployments|tests|docs)/"
    for page in PAGES:
        for name in re.findall(rf"`({folders}[\w./-]*)`", prose(page)):
            assert (ROOT / name).exists(), f"{page.name} names {name}, which is not there"
