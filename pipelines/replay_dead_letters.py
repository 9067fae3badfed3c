"""Send refused rows through their door again after a fix; what is in already counts as repeated.

`python -m pipelines.replay_dead_letters --set tenant=NAME [--set reason=CODE] [--set source=DOOR] [--set from=TIME]
[--set to=TIME] [--set module=NAME] [--set url=URL] [--set key=KEY]`, also through `llmhub job`. The key must cover the
tenant; without one, that of the hub's folder is used. Prints one JSON object; exits 1 when a row was refused again.

What was taken is marked in the metadata store, which every node of a hub reaches and which outlives the job's folder.
The mark is of the content, not of the dead letter: a row that is refused again makes another dead letter, and the next
run sends the content once all the same. A run that ends between answer and mark sends again, which counts as repeated.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import RequestInvalid
from cluster.metadata.replays import ReplayStore
from cluster.metadata.schema import open_metadata
from cluster.sdk.client import NDJSON, HubClient
from cluster.settings import Settings
from cluster.tenancy import TenantId, tenant_id
from pipelines import hub_door
from pipelines.options import chosen
from pipelines.report import reported

_OPTIONS: Final = ("tenant", "reason", "source", "from", "to", "module", *hub_door.OPTIONS)
# The doors whose originals are whole rows. A span or log record is kept without its resource, so it is left.
_REPLAYABLE: Final = "events"
# A receipt lists as many refusals, so that each row's outcome is known.
ROWS_PER_BODY: Final = 100
_PAGE: Final = 200
_REFUSALS_MAX: Final = 100
_DEFAULT_FROM: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class _Row:
    """One original, one line of NDJSON, and the mark of its content."""

    original: bytes
    mark: str


def replay(client: HubClient, store: ReplayStore, tenant: TenantId, options: dict[str, str]) -> dict[str, Any]:
    """Replay the dead letters that the options choose.

    Args:
        client: a client of that tenant.
        options: of "reason", "source", "from", "to", "module", those that were given.

    Returns:
        Counts: found = replayed before + the same content again + truncated + of another door + not one line + sent;
        sent = accepted + repeated + refused. And the first hundred refusals.

    Raises:
        HubError: the hub refused a whole body or did not answer; what was taken until then is marked.
    """
    counts: Counter[str] = Counter()
    refusals: list[dict[str, str]] = []
    for rows in _bodies(_letters(client, options), counts):
        done = store.marked(tenant, [row.mark for row in rows])
        counts["replayed_before"] += len(done)
        body = [row for row in rows if row.mark not in done]
        if not body:
            continue
        receipt = client.post_body(b"\n".join(row.original for row in body), NDJSON, options.get("module"))
        refused = {error.index for error in receipt.errors}
        store.mark(tenant, [row.mark for index, row in enumerate(body) if index not in refused])
        counts["sent"] += len(body)
        for name in ("accepted", "repeated", "refused"):
            counts[name] += getattr(receipt, name)
        refusals += [{"code": error.code, "message": error.message} for error in receipt.errors]
        del refusals[_REFUSALS_MAX:]
    names = ("found", "replayed_before", "same_content", "truncated", "other_door", "not_one_line", "sent")
    told = {name: counts[name] for name in (*names, "accepted", "repeated", "refused")}
    return {"tenant": tenant, **told, "refusals": refusals}


def _bodies(letters: Iterable[dict[str, Any]], counts: Counter[str]) -> Iterator[list[_Row]]:
    """Rows to send, up to ROWS_PER_BODY at a time, each content once; what cannot be sent is counted."""
    rows: list[_Row] = []
    seen: set[str] = set()
    for letter in letters:
        counts["found"] += 1
        row = _row(letter)
        if isinstance(row, str):
            counts[row] += 1
        elif row.mark in seen:
            counts["same_content"] += 1
        else:
            seen.add(row.mark)
            rows.append(row)
        if len(rows) == ROWS_PER_BODY:
            yield rows
            rows = []
    if rows:
        yield rows


def _letters(client: HubClient, options: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Dead letters as the route tells them, newest first."""
    # An end that stands still: what is refused again while this runs is for the next run.
    end = options.get("to") or format_rfc3339(SystemClock().now_us())
    asked = [("from", options.get("from", _DEFAULT_FROM)), ("to", end), ("limit", str(_PAGE))]
    asked += [(name, options[key]) for name, key in (("reason_code", "reason"), ("source", "source")) if key in options]
    cursor: list[tuple[str, str]] = []
    while True:
        page = client.get("/api/v1/dead-letters", [*asked, *cursor])
        yield from page["dead_letters"]
        if page["next_cursor"] is None:
            return
        cursor = [("cursor", page["next_cursor"])]


def _row(letter: dict[str, Any]) -> _Row | str:
    """The row of a dead letter, or the count that says why there is none."""
    if letter["source"] != _REPLAYABLE:
        return "other_door"
    if not letter["is_complete"]:
        return "truncated"
    text = letter.get("original")
    original = base64.b64decode(letter["original_base64"]) if text is None else text.encode()
    # Of a JSON array's element the line breaks are sent as they were; as NDJSON they would make several rows of one.
    if not original.strip() or b"\n" in original.strip():
        return "not_one_line"
    return _Row(original.strip(), hashlib.blake2b(_REPLAYABLE.encode() + b"\0" + original, digest_size=16).hexdigest())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all taken, 1 a row was refused again or a failure, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.replay_dead_letters", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(_OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, _OPTIONS, needed=("tenant",))
        tenant = tenant_id(options["tenant"])
    except RequestInvalid as error:
        parser.error(error.message)
    return reported(lambda: _run(options, tenant), lambda report: not report["refused"])


def _run(options: dict[str, str], tenant: TenantId) -> dict[str, Any]:
    settings, clock = Settings.from_environment(), SystemClock()
    with closing(open_metadata(settings, clock)) as database, hub_door.client_of(options, settings, tenant) as client:
        return replay(client, ReplayStore(database, clock), tenant, options)


if __name__ == "__main__":
    sys.exit(main())
