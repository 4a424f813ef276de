"""Whoever comes finds every document: each is linked from the README, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.servers.fetch import ROOT

PAGES = [ROOT / "README.md", ROOT / "tests/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\[[^]]*\]\(([^)#:]*)(?:#([^)]*))?\)")


def links(page: Path) -> list[tuple[Path, str]]:
    return [(page.parent / file if file else page, heading) for file, heading in _LINK.findall(page.read_text())]


def headings(page: Path) -> set[str]:
    """As those who show Markdown make anchors of them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_readme_leads_to_every_document() -> None:
    linked = {file.resolve() for file, _ in links(ROOT / "README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md") if page.resolve() not in linked} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, heading in links(page):
        assert file.exists(), f"{file} of {page.name}"
        assert not heading or heading in headings(file), f"{heading} of {file.name}, in {page.name}"
