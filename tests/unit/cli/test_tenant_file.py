"""Files of tenants: each entry with its line, however the file is laid out or broken."""

import json
from collections.abc import Iterator
from io import StringIO
from itertools import islice

import pytest

from orchestrator.cli.tenant_file import MAX_ENTRY, Entry, read_entries

A, B = '{"id":"a [\\"]"}', '{"id": "b,"}'
WIDE = '{\n  "id": "c"\n}'


def entries(text: str) -> list[tuple[int, str | None]]:
    return [(one.line, one.text and one.text.strip()) for one in read_entries(StringIO(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \n", []),
        (A, [(1, A)]),
        (f"\n{A}\n\n {B} \r\n", [(2, A), (4, B)]),
        (f"{A}\nnot JSON\n{B}\n", [(1, A), (2, "not JSON"), (3, B)]),
        ("[]", []),
        (f"[{A},{B}]", [(1, A), (1, B)]),
        (f"\n [\n{A},\n\n{WIDE},\n  {B}\n]\n", [(3, A), (5, WIDE), (8, B)]),
        (f"[{A}, id]", [(1, A), (1, "id]")]),
        (f"[{A},\n", [(1, A), (2, "")]),
        (f"[{A}]\n{B}", [(1, A), (2, B)]),
    ],
)
def test_each_entry_has_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    """Lines, an array on one line or on many, broken entries and broken ends."""
    assert entries(text) == expected


def test_a_line_that_is_too_large_is_skipped() -> None:
    """The next one has its own number."""
    large = f'{{"id": "{"x" * 3 * MAX_ENTRY}"}}'
    assert entries(f"{A}\n{large}\n{B}\n") == [(1, A), (2, None), (3, B)]
    assert entries(large) == [(1, None)]


def test_an_entry_of_an_array_that_is_too_large_ends_it() -> None:
    """What is read of it is no JSON."""
    first, second, *rest = entries(f'[{A}, {{"id": "{"x" * 3 * MAX_ENTRY}"}}]\n{B}')
    assert first == (1, A)
    assert second[1] is not None
    assert len(second[1]) < 2 * MAX_ENTRY
    assert rest == []


@pytest.mark.parametrize("size", [1, 100, 30_000])
def test_an_array_is_read_in_pieces(size: int) -> None:
    """Entries that lie across the pieces are whole."""
    ids = [f"{n}{'x' * size}" for n in range(20)]
    text = json.dumps([{"id": one} for one in ids], indent=1)
    assert [json.loads(one or "")["id"] for _, one in entries(text)] == ids


class Endless(StringIO):
    """An array that never ends."""

    def readline(self, _size: int = -1, /) -> str:  # type: ignore[override]
        return "[\n"

    def read(self, _size: int | None = -1, /) -> str:
        return f"{A},\n"


def test_no_more_is_read_than_is_used() -> None:
    """The first entries are there before the file is read to its end."""
    found: Iterator[Entry] = read_entries(Endless())
    assert [one.line for one in islice(found, 3)] == [2, 3, 4]
