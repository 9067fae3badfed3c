"""CPU and memory of a hub on this machine, by part: read from /proc, so that they cost the hub nothing."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.runtime import processes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# How a process of each part begins its command line; the first that fits.
_PARTS = (
    ("ray::ShardHost", "shards"),
    ("ray::CommitterHost", "committer"),
    ("ray::ServeReplica:hub:ingress", "doors"),
    ("ray::ServeReplica:hub:query", "query"),
    ("haproxy", "edge"),
    ("ray::HAProxyManager", "edge"),
    ("ray::ProxyActor", "edge"),
)
_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the parts have used until now, and hold now; `rest` is Ray's own processes, MLflow and the supervisor."""

    cpu_s: Counter[str]
    resident_mib: Counter[str]


def footprint(supervisor_pid: int) -> Footprint:
    """Of every living process of the hub. Memory that processes share counts in each of them."""
    cpu_s: Counter[str] = Counter()
    resident_mib: Counter[str] = Counter()
    for process in processes.members([supervisor_pid]):
        folder = Path(f"/proc/{process.pid}")
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").lstrip("/")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            pages = int((folder / "statm").read_text().split()[1])
        except OSError:
            continue
        part = next((name for start, name in _PARTS if title.rpartition("/")[2].startswith(start)), "rest")
        cpu_s[part] += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        resident_mib[part] += pages * _PAGE_BYTES / 2**20
    return Footprint(cpu_s, resident_mib)


class Watch:
    """Looks at a hub every two seconds while a block runs."""

    def __init__(self, supervisor_pid: int) -> None:
        self._pid = supervisor_pid
        self._seen: list[Footprint] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._seen.append(footprint(self._pid))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._seen.append(footprint(self._pid))

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._seen.append(footprint(self._pid))

    def figures(self, events: int) -> dict[str, dict[str, float]]:
        """CPU by part in s for a million events, and resident MiB by part at a third of the time and at its end.

        A hub fills its caches and buffers first, so growth is what comes after the first third.
        """
        first, third, last = self._seen[0], self._seen[len(self._seen) // 3], self._seen[-1]
        spent = {part: last.cpu_s[part] - first.cpu_s[part] for part in last.cpu_s}
        return {
            "cpu_s_per_million_events": {
                part: round(s * 1e6 / events, 2) for part, s in [*sorted(spent.items()), ("all", sum(spent.values()))]
            },
            "resident_mib_at_a_third": _told(third),
            "resident_mib_at_the_end": _told(last),
        }


def _told(seen: Footprint) -> dict[str, float]:
    parts = sorted(seen.resident_mib.items())
    return {part: round(mib) for part, mib in [*parts, ("all", sum(seen.resident_mib.values()))]}
