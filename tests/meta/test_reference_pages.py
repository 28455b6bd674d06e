"""The generated pages are current, so that nothing public is undocumented."""

import pytest

from tests.reference.pages import DOCS, PAGES, build


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_it_would_be_written(name: str) -> None:
    """`make docs` was run after the last change of a setting, route, option or public name."""
    assert (DOCS / name).read_text() == build(name)


def test_each_setting_has_a_comment() -> None:
    """Each setting's row has the comment of default.toml."""
    rows = [line for line in build("configuration.md").splitlines() if "<br>" in line]
    assert rows
    assert [line for line in rows if line.endswith("|  |")] == []
