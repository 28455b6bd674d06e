"""The links of all pages lead somewhere: to a file, and to a heading in it. No network is used."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
_CODE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:")


def links(page: Path) -> Iterator[str]:
    """The targets of its links within the repository; those in code are none."""
    text = _SPAN.sub("", _CODE.sub("", page.read_text()))
    return (link for link in _LINK.findall(text) if not _ELSEWHERE.match(link))


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    seen = Counter[str]()
    found = set()
    for heading in _HEADING.findall(_CODE.sub("", page.read_text())):
        words = re.sub(r"\]\([^)]*\)", "]", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_leads_somewhere(page: Path) -> None:
    """Files are there, and headings are called so."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_index_has_each_page() -> None:
    """docs/README.md leads to all others."""
    listed = Counter(links(DOCS / "README.md"))
    assert set(listed) == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert set(listed.values()) == {1}


def test_the_readme_leads_to_the_index() -> None:
    """The README, where a reader begins, links to the index."""
    assert "docs/README.md" in set(links(ROOT / "README.md"))
