"""`python -m infra.demo`: the simulated LLM platform, first its last hours at once, then live until stopped."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cluster.clock import SystemClock
from cluster.errors import HubError
from cluster.sdk.client import HubClient, HubUnreachable
from infra.demo.sender import Notebook, Sender
from infra.demo.traffic import Traffic

_LIVE_STEP_S = 2.0
# The truth grows by at most an incident now and then; the story need not be kept with every step.
_SAVE_EVERY_S = 20.0


class _Stopped(Exception):
    """Somebody asked for the end."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 stopped, 1 failed."""
    options = _parser().parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    def pause(seconds: float) -> None:
        if stopped.wait(seconds):
            raise _Stopped

    folder = options.data / "demo"
    clock = SystemClock()
    notebook = Notebook.open(folder, seed=options.seed, period_us=int(options.hours * 3.6e9), now_us=clock.now_us())
    incidents = notebook.incidents()
    key = options.key or _admin_key(options.data)
    try:
        with HubClient(options.url, key, deadline_s=600.0, pause=pause) as client:
            sender = Sender(client, Traffic(notebook.seed, incidents), incidents)
            _tell_past(sender, notebook, clock.now_us(), pause)
            notebook.save(folder)
            if not options.once:
                _tell_present(sender, notebook, folder, stopped)
    except _Stopped:
        return 0
    except HubError as error:
        print(f"demo: {error.message}", file=sys.stderr, flush=True)
        return 1
    finally:
        notebook.save(folder)
    return 0


def _tell_past(sender: Sender, notebook: Notebook, until_us: int, pause: Callable[[float], None]) -> None:
    started = time.monotonic()
    last = started

    def told(book: Notebook) -> None:
        nonlocal last
        pause(0.0)
        if time.monotonic() - last >= 5.0:
            last = time.monotonic()
            done = 1 - (until_us - book.told_us) / max(1, until_us - begin)
            print(f"demo: {100 * done:.0f} % of the past, {sender.counts.sent:,} events and spans", flush=True)

    begin = notebook.told_us
    sender.catch_up(notebook, until_us, told=told)
    counts = sender.counts
    print(
        f"demo: the past is told: {counts.events:,} events and {counts.spans:,} spans"
        f" in {time.monotonic() - started:.1f} s, {counts.repeated:,} repeated, {counts.refused:,} refused",
        flush=True,
    )


def _tell_present(sender: Sender, notebook: Notebook, folder: Path, stopped: threading.Event) -> None:
    clock = SystemClock()
    saved_s = clock.monotonic_s()
    while not stopped.wait(_LIVE_STEP_S):
        now_us = clock.now_us()
        try:
            sender.catch_up(notebook, now_us, told=lambda book: None)
        except HubUnreachable as error:
            # The hub may be on its way back; the same stretch is sent again.
            print(f"demo: {error.message}", file=sys.stderr, flush=True)
        if clock.monotonic_s() - saved_s >= _SAVE_EVERY_S:
            saved_s = clock.monotonic_s()
            notebook.save(folder)


def _admin_key(data: Path) -> str:
    try:
        return (data / "admin.key").read_text().strip()
    except OSError:
        return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"), help="the hub (HUB_URL)")
    parser.add_argument(
        "--key", default=os.environ.get("HUB_API_KEY", ""), help="API key (HUB_API_KEY, else admin.key)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("HUB_DATA", ".llmhub")), help="folder (HUB_DATA)"
    )
    parser.add_argument("--hours", type=float, default=24.0, help="how much of the past is told first")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--once", action="store_true", help="only the past, then exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
