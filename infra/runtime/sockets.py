"""The self-check of listening sockets: every one of ours is on loopback or on the list, or the hub stops."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import HubError
from cluster.settings import Settings

_LISTEN = "0A"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


class SocketExposed(HubError):
    """A process of the hub listens where others can reach it, and no rule allows that."""

    code = "socket_exposed"
    hint = "The hub has stopped. Report the process and port named here; HUB_HOST opens only the two public doors."


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket."""

    address: str
    port: int
    pid: int
    process: str

    @property
    def is_local(self) -> bool:
        """Reachable from this machine only."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)


def parse_listening(table: str) -> dict[int, tuple[str, int]]:
    """Listening sockets of one /proc/net/tcp or tcp6 table: inode -> (address, port)."""
    found: dict[int, tuple[str, int]] = {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        found[int(fields[9])] = (_address(address), int(port, 16))
    return found


def _address(text: str) -> str:
    """The kernel prints each 32-bit word of an address in the byte order of the machine (little here)."""
    raw = bytes.fromhex(text)
    words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
    return str(ipaddress.ip_address(b"".join(words)))


def listeners_of(pids: Iterable[int]) -> list[Listener]:
    """Listening TCP sockets held by the given processes; one that several share is told once, for the lowest pid."""
    table: dict[int, tuple[str, int]] = {}
    for path in _TABLES:
        with suppress(OSError):
            table |= parse_listening(Path(path).read_text())
    found: dict[int, Listener] = {}
    for pid in sorted(pids):
        for inode in _socket_inodes(pid):
            if inode in table and inode not in found:
                address, port = table[inode]
                found[inode] = Listener(address, port, pid, _name(pid))
    return sorted(found.values(), key=lambda one: (one.port, one.address))


def _socket_inodes(pid: int) -> set[int]:
    inodes = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(int(target[8:-1]))
    return inodes


def _name(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return Path(words[0].decode(errors="replace").split(" ")[0]).name
    return "?"


def public_doors(settings: Settings) -> frozenset[int]:
    """Ports that may listen beyond loopback: the two doors, and only when the operator opened them with a host."""
    if ipaddress.ip_address(settings.host).is_loopback:
        return frozenset()
    return frozenset({settings.port, settings.otlp_port})


def exposed(listeners: Iterable[Listener], allowed: frozenset[int]) -> list[Listener]:
    """Those that are neither on loopback nor on the list."""
    return [one for one in listeners if not one.is_local and one.port not in allowed]


def check(pids: Iterable[int], settings: Settings) -> list[Listener]:
    """All listeners of the processes.

    Raises:
        SocketExposed: one is reachable from outside and not on the list.
    """
    listeners = listeners_of(pids)
    bad = exposed(listeners, public_doors(settings))
    if bad:
        told = ", ".join(f"{one.process} (pid {one.pid}) on {one.address}:{one.port}" for one in bad)
        raise SocketExposed(f"listening where it may not: {told}")
    return listeners
