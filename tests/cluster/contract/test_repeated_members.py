"""A member that comes twice in one event: the last one counts, in every form of JSON and by every reader."""

from __future__ import annotations

import pytest

from cluster.contract.decode import decode
from tests.cluster.contract.bodies import CONTEXT, NDJSON, checked

_ONCE = (
    b'{"event_id":"e%d","occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"gateway.request",'
    b'"model":"b","input_tokens":2,"attributes":{"y":1}}'
)
_TWICE = _ONCE.replace(b'"model":"b",', b'"model":"a","model":"b","input_tokens":1,"attributes":{"x":1},')


@pytest.mark.parametrize("rows", [1, 4, 200])
@pytest.mark.parametrize("twice", [slice(0, None), slice(1, None, 3), slice(0, 1)])
@pytest.mark.parametrize("form", ["ndjson", "array"])
def test_the_last_of_two_counts(rows: int, twice: slice, form: str) -> None:
    lines = [_ONCE % number for number in range(rows)]
    lines[twice] = [_TWICE % number for number in range(rows)][twice]
    body, kind = (b"\n".join(lines), NDJSON) if form == "ndjson" else (b"[%s]" % b",".join(lines), "application/json")
    decoded = checked(decode(body, content_type=kind, context=CONTEXT))
    assert decoded.refusals == []
    for name, value in (("model", "b"), ("input_tokens", 2), ("attributes", '{"y":1}')):
        assert decoded.events.column(name).to_pylist() == [value] * rows
