"""Send every readable record of a damaged or orphaned journal through the doors again; repeats are recognised.

`python -m pipelines.salvage_journal FOLDER [FOLDER ...]` with HUB_URL and HUB_API_KEY, or `--url` and `--key`. The
key must cover every tenant of the journal. The folder is only read. Prints the counts as JSON; exit code 1 when a
record could not be sent.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from actors.journal import EVENTS, Record, find_record, scan, segment_path, sequences
from actors.recovery import batch_of
from cluster.errors import HubError
from cluster.sdk.client import HubClient


def readable_records(folder: Path) -> Iterator[tuple[Record | None, int]]:
    """Every intact record of every segment, with 0; and None with the bytes that had to be skipped."""
    for sequence in sequences(folder):
        content = pa.py_buffer(segment_path(folder, sequence).read_bytes())
        offset: int | None = 0
        while offset is not None and offset < content.size:
            end = offset
            for record, behind in scan(content, offset):
                end = behind
                yield record, 0
            offset = find_record(content, end + 1) if end < content.size else None
            if end < content.size:
                yield None, (content.size if offset is None else offset) - end


def salvage(folder: Path, clients: dict[str, HubClient], *, url: str, key: str) -> Counter[str]:
    """Send one journal's events; dead letters and seals are counted only."""
    counts: Counter[str] = Counter()
    for record, skipped in readable_records(folder):
        counts["bytes_skipped"] += skipped
        if record is None or not record.rows:
            continue
        if record.kind != EVENTS:
            counts["dead_letters_left"] += record.rows
            continue
        if record.tenant not in clients:
            clients[record.tenant] = HubClient(url, key, tenant=record.tenant)
        receipt = clients[record.tenant].post_arrow(batch_of(record).drop_columns(["counted", "received_at"]))
        counts["accepted"] += receipt.accepted
        counts["repeated"] += receipt.repeated
        counts["refused"] += receipt.refused
    return counts


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--key", default=os.environ.get("HUB_API_KEY", ""))
    chosen = parser.parse_args(arguments)
    clients: dict[str, HubClient] = {}
    counts: Counter[str] = Counter()
    try:
        for folder in chosen.folders:
            counts += salvage(folder, clients, url=chosen.url, key=chosen.key)
    except HubError as error:
        print(f"salvage_journal: {error.message}", file=sys.stderr)
        return 1
    finally:
        for client in clients.values():
            client.close()
    print(json.dumps(counts))
    return 0 if not counts["refused"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
