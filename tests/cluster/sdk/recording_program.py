"""A program that records, for tests that end it: `python -m … MODE URL SPOOL COUNT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster.sdk.client import HubClient, Recording
from cluster.sdk.recorder import ClientForked
from tests.cluster.sdk.events import KEY, event


def main(mode: str, url: str, spool: str, count: str) -> None:
    recording = Recording(
        batch_events=50, batch_age_s=0.01, spool=Path(spool) if spool else None, spool_after_s=0.0, close_s=30.0
    )
    client = HubClient(url, KEY, recording=recording, chance=lambda: 0.05)
    for number in range(int(count)):
        client.record(event(number))
    if mode == "spool":
        # Until a kill: everything is on disk when the last line is printed.
        while client.flush(0.05).spooled < int(count):
            pass
        print("spooled", flush=True)
        sys.stdin.read()
    elif mode == "fork":
        child = os.fork()
        for number in range(10):
            try:
                client.record(event(number, event_id=f"{'child' if not child else 'parent'}-{number}"))
            except ClientForked as error:
                print(error.code, flush=True)
                break
        if child:
            os.waitpid(child, 0)
    # No close: the end of the program sees to it.


if __name__ == "__main__":
    main(*sys.argv[1:])
