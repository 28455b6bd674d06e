"""Identifiers are digests of their parts, stored with every item."""

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.identifiers import digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4))
def test_a_digest_is_that_of_its_parts_as_one_list(parts: list[Any]) -> None:
    """The bytes under a stored digest are the compact JSON of all parts, with sorted names."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert digest(*parts) == hashlib.sha256(text.encode()).hexdigest()[:40]
