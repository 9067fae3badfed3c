"""`llmhub up --detach`: the hub in a process of its own, told of on this terminal until it is ready."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from infra.cli.failures import CommandFailed
from infra.runtime.layout import HubState, Layout

START_DEADLINE_S = 900.0
_LOOK_EVERY_S = 0.1
# How the supervisor tells why it ends.
_FAILURE = "llmhub: "


def start(layout: Layout, run: Callable[[], int]) -> None:
    """Run the hub in a child with a session of its own; returns when it is ready.

    Args:
        run: the hub, until it ends; gives the exit code.

    Raises:
        CommandFailed: it ended, or was not ready in time.
    """
    layout.make()
    output = layout.logs / "up.log"
    output.write_bytes(b"")
    sys.stdout.flush()
    # A fork, not another Python that imports the same again.
    child = os.fork()
    if child == 0:
        _be_the_hub(output, run)
    relay = _Relay(output)
    end = time.monotonic() + START_DEADLINE_S
    while True:
        ended = os.waitpid(child, os.WNOHANG)[0] != 0
        state = HubState.load(layout)
        ready = state is not None and state.supervisor_pid == child and state.phase == "ready"
        # Ready is saved before it is told, and what is told is read after.
        relay.pass_on()
        if ended:
            raise CommandFailed(relay.failure or "the hub did not start", hint=None if relay.failure else str(output))
        if ready and relay.is_complete:
            return
        if time.monotonic() > end:
            raise CommandFailed(f"the hub is not ready after {START_DEADLINE_S:.0f} s", hint=f"See {layout.logs}.")
        time.sleep(_LOOK_EVERY_S)


def _be_the_hub(output: Path, run: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(output, os.O_WRONLY | os.O_APPEND)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        code = run()
        sys.stdout.flush()
    finally:
        # Not by way of the caller's frames, which belong to the parent.
        os._exit(code)


class _Relay:
    """Prints what the hub tells in its log as it comes, but keeps the reason of a failure for the error message."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._passed = 0
        self.failure = ""
        # The last line of the announcement says how to stop the hub.
        self.is_complete = False

    def pass_on(self) -> None:
        text = self._output.read_bytes()
        # Whole lines only.
        text = text[: text.rfind(b"\n") + 1]
        for line in text[self._passed :].decode(errors="replace").splitlines():
            if self.failure or line.startswith(_FAILURE):
                self.failure = f"{self.failure}\n{line}" if self.failure else line.removeprefix(_FAILURE)
            else:
                print(line, flush=True)
                self.is_complete = self.is_complete or line.endswith("stops it.")
        self._passed = len(text)
