"""What clients do when the program ends, and in a process forked from it."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import Final, Protocol


class Lived(Protocol):
    """A client, as far as its end is concerned."""

    def close_at_exit(self) -> None:
        """Send or spool what is left."""

    def after_fork(self) -> None:
        """This is a child: connections, threads and what waits belong to the parent."""


_CLIENTS: Final[weakref.WeakSet[Lived]] = weakref.WeakSet()
_LOCK: Final = threading.Lock()
_watching = False


def watch(client: Lived) -> None:
    """See to this client's end; it is forgotten with its last reference."""
    global _watching
    with _LOCK:
        _CLIENTS.add(client)
        if not _watching:
            _watching = True
            atexit.register(_at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_in_child)


def _at_exit() -> None:
    for client in list(_CLIENTS):
        client.close_at_exit()


def _in_child() -> None:
    for client in list(_CLIENTS):
        client.after_fork()
