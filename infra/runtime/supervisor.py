"""The process behind `llmhub up`: starts every part, watches them, starts again what dies, stops them cleanly."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import structlog

from cluster.errors import HubError
from infra.runtime import announcing
from infra.runtime.instance import Instance, Options
from infra.runtime.layout import StartFailed

log = structlog.get_logger("supervisor")

HEALTH_EVERY_S = 5.0
# Serve heals its own parts; only a hub that stays silent this long is started again from the head.
SILENT_LIMIT_S = 120.0
# Failed recoveries in a row after which the supervisor gives up and says so.
ATTEMPTS = 10


@dataclass(slots=True)
class _Watch:
    """What the loop waits on: process ends and the wake-up of a signal."""

    descriptors: dict[int, str]

    @classmethod
    def over(cls, instance: Instance, wake: int) -> _Watch:
        found = {wake: "signal"}
        for process in instance.vital():
            with suppress(OSError):
                found[os.pidfd_open(process.pid)] = "head"
        if instance.mlflow is not None:
            with suppress(OSError):
                found[os.pidfd_open(instance.mlflow.pid)] = "mlflow"
        return cls(found)

    def wait(self, timeout_s: float) -> set[str]:
        """Names of what ended or woke; empty when the time is up."""
        readable, _, _ = select.select(list(self.descriptors), [], [], timeout_s)
        return {self.descriptors[descriptor] for descriptor in readable}

    def close(self) -> None:
        for descriptor, name in self.descriptors.items():
            if name != "signal":
                os.close(descriptor)


class Supervisor:
    """Runs one instance until a signal asks it to stop."""

    def __init__(self, options: Options) -> None:
        self._instance = Instance(options)
        self._demo = options.demo
        self._stopping = False

    def run(self) -> int:
        """Exit code: 0 stopped on request, 1 could not start or recover."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        try:
            with self._instance.locked():
                return self._run_locked(read)
        except HubError as failure:
            _complain(failure)
            return 1

    def _run_locked(self, wake: int) -> int:
        instance = self._instance
        try:
            instance.start(lambda: self._stopping)
            announcing.announce(instance.state, instance.layout, new_key=instance.new_key, demo=self._demo)
            self._watch(wake)
            code = 0
        except _Stopped:
            code = 0
        except HubError as failure:
            code = 0 if self._stopping else 1
            if code:
                _complain(failure)
        # A second Ctrl-C must not cut the drain short half way; kill -9 still can, and loses nothing either.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if code == 0:
            print("stopping: the doors close, and what was acknowledged is committed …", flush=True)
        instance.stop(drain=code == 0)
        if code == 0:
            print(f"stopped; the data stays in {instance.layout.data}", flush=True)
        return code

    def _ask_to_stop(self, number: int, _: object) -> None:
        self._stopping = True

    def _watch(self, wake: int) -> None:
        silent_since: float | None = None
        while not self._stopping:
            watch = _Watch.over(self._instance, wake)
            try:
                ended = watch.wait(HEALTH_EVERY_S)
            finally:
                watch.close()
            if "signal" in ended:
                # Its handler ran before this line; a signal that is not for us changes nothing.
                os.read(wake, 64)
                continue
            if "mlflow" in ended:
                self._restart_mlflow()
            if "head" in ended or self._instance.head_is_gone():
                self._recover("the Ray head died")
                silent_since = None
                continue
            self._instance.check_spare()
            if self._instance.is_healthy():
                silent_since = None
                continue
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > SILENT_LIMIT_S:
                self._recover(f"no healthy answer for {SILENT_LIMIT_S:.0f} s")
                silent_since = None

    def _recover(self, reason: str) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            started = time.monotonic()
            log.error("recovering", reason=reason, attempt=attempt)
            try:
                self._instance.recover(lambda: self._stopping)
            except StartFailed as failure:
                if self._stopping:
                    raise _Stopped from failure
                reason = failure.message
                continue
            log.warning("recovered", seconds=round(time.monotonic() - started, 1))
            return
        raise StartFailed(f"the hub could not be brought back in {ATTEMPTS} attempts: {reason}")

    def _restart_mlflow(self) -> None:
        log.error("mlflow_died")
        self._instance.restart_mlflow()


class _Stopped(Exception):
    """A stop was asked for in the middle of a start."""


def _complain(failure: HubError) -> None:
    log.error("hub_failed", code=failure.code, message=failure.message)
    hint = f"\n  {failure.hint}" if failure.hint else ""
    print(f"llmhub: {failure.message}{hint}", file=sys.stderr, flush=True)
