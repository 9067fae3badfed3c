"""Processes by what /proc says: the members of a session, identity beyond the pid, an orderly end."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process; pid and start time together name it for good."""

    pid: int
    parent: int
    session: int
    # Clock ticks since boot.
    start: int
    state: str
    name: str


def look_up(pid: int) -> Process | None:
    """The process, or None when it is gone. A zombie is returned, with state "Z"."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    name = head.partition("(")[2]
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0], name)


def all_processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (process := look_up(int(entry.name))) is not None:
            yield process


def members(sessions: Iterable[int]) -> list[Process]:
    """Living processes of the given sessions and their descendants, whatever session those moved to."""
    wanted = set(sessions)
    everyone = [p for p in all_processes() if p.state != "Z"]
    found = {p.pid for p in everyone if p.session in wanted or p.pid in wanted}
    while True:
        more = {p.pid for p in everyone if p.parent in found} - found
        if not more:
            return [p for p in everyone if p.pid in found]
        found |= more


def is_alive(pid: int, start: int | None = None) -> bool:
    """Whether that very process runs; with `start`, another one that got its pid does not count."""
    process = look_up(pid)
    if process is None or process.state == "Z":
        return False
    return start is None or process.start == start


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    """Signal each process that is still the one that was listed."""
    for process in processes:
        if is_alive(process.pid, process.start):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def wait_gone(processes: Iterable[Process], *, deadline_s: float) -> list[Process]:
    """Wait until all have ended; returns those that have not after `deadline_s`."""
    end = time.monotonic() + deadline_s
    left = []
    for process in processes:
        if not _wait_one(process, end):
            left.append(process)
    return left


def _wait_one(process: Process, end: float) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return True
    try:
        now = look_up(process.pid)
        if now is None or now.start != process.start:
            return True
        # A first thread that has ended makes the process look like a zombie; its sockets stay until the last has.
        readable, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        return bool(readable)
    finally:
        os.close(descriptor)


def end_sessions(sessions: Iterable[int], *, grace_s: float) -> list[str]:
    """End every process of the sessions: asked first, then killed. Returns the names of those that had to be killed.

    Processes that start meanwhile are found by looking again.
    """
    wanted = tuple(sessions)
    if grace_s > 0:
        asked = members(wanted)
        send(asked, signal.SIGTERM)
        wait_gone(asked, deadline_s=grace_s)
    killed: list[str] = []
    for _ in range(10):
        left = members(wanted)
        if not left:
            break
        killed += [p.name for p in left]
        send(left, signal.SIGKILL)
        wait_gone(left, deadline_s=2.0)
    return killed


def wait_until(condition: Callable[[], bool], *, deadline_s: float, every_s: float = 0.1) -> bool:
    """Poll a condition that gives no event to wait on; False when the time is up."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(every_s)
    return True


def mentions(pid: int, text: str) -> bool:
    """Whether a process of this user has `text` in its environment or command line: a mark that survives restarts."""
    for name in ("environ", "cmdline"):
        with suppress(OSError):
            if text.encode() in (_PROC / str(pid) / name).read_bytes():
                return True
    return False
