"""The body of a call: the JSON that was asked for, and the same bytes every time (SPEC C-12)."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from alerts_engine.channels.http import _json_bytes

texts = st.text() | st.text(min_size=300, max_size=400)
values = texts | st.none() | st.booleans() | st.integers() | st.lists(texts, max_size=2)


@given(st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_body_is_the_json_of_its_fields(fields: dict[str, object]):
    """Short and long texts alike."""
    assert json.loads(_json_bytes(fields)) == fields
    assert _json_bytes(fields) == _json_bytes(dict(fields))
