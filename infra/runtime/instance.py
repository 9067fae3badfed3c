"""One running hub on this machine: its parts in the order they start, and the order they stop."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import structlog

from cluster.settings import SECRET_VARIABLES, Settings
from infra.runtime import demo_process, edge, mlflow_server, ports, processes, ray_head, sockets
from infra.runtime.layout import HubState, Layout, StartFailed, StartRefused, write_secret
from infra.runtime.ray_head import RayHead

log = structlog.get_logger("instance")

# Set for the drivers when the cluster was not started by this hub.
JOINED = "HUBRUN_JOINED"
DEPLOY_DEADLINE_S = 180.0
HEALTHY_DEADLINE_S = 60.0
DRAIN_DEADLINE_S = 60.0
# After the drain there is nothing left in memory, so Ray's own goodbye may be short.
RAY_GRACE_S = 1.0

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Options:
    """What `llmhub up` was asked for."""

    settings: Settings
    # A running cluster to join instead of starting a head here; empty means start one.
    address: str = ""
    demo: bool = False


class Instance:
    """Every part of one hub. Not safe for threads."""

    def __init__(self, options: Options) -> None:
        self.settings = options.settings
        self.layout = Layout.of(options.settings)
        self.mlflow: subprocess.Popen[bytes] | None = None
        self._options = options
        self._head: RayHead | None = None
        self._head_process: subprocess.Popen[bytes] | None = None
        self._demo: subprocess.Popen[bytes] | None = None
        self._vital: list[processes.Process] = []
        self._variables: dict[str, str] = {}
        self._new_key: str | None = None
        self._began = time.monotonic()
        self._spare_port = 0
        own = processes.look_up(os.getpid())
        door = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::") else self.settings.host  # noqa: S104
        self.state = HubState(
            phase="starting",
            supervisor_pid=os.getpid(),
            supervisor_start=own.start if own else 0,
            url=f"http://{door}:{self.settings.port}",
            otlp_grpc=f"http://{door}:{self.settings.otlp_port}",
            mlflow=f"http://127.0.0.1:{self.settings.mlflow_port}",
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            version=version("llm-analytics-hub"),
            settings={k: v for k, v in self.settings.environment().items() if k not in SECRET_VARIABLES},
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the data folder: two supervisors over one folder would each kill the other's processes.

        Raises:
            StartRefused: another supervisor holds it.
        """
        self.layout.make()
        with open(self.layout.data / "hub.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartRefused(
                    f"a hub already runs over {self.layout.data}", hint="`llmhub down` stops it."
                ) from None
            yield

    def start(self, stop: Stop) -> None:
        """Start everything; returns when the doors answer and the sockets were checked.

        Raises:
            StartRefused, StartFailed: nothing keeps running that `stop` does not end.
        """
        log.info("starting")
        self._end_leftovers()
        for port in (self.settings.port, self.settings.otlp_port):
            if not ports.is_free(port, self.settings.host):
                raise StartRefused(f"port {port} is taken", hint="Choose others with --port and --otlp-port.")
        self._save("starting")
        if not ports.is_free(self.settings.mlflow_port):
            raise StartRefused(f"port {self.settings.mlflow_port} is taken", hint="Choose another with --mlflow-port.")
        self._tell(f"starting over {self.layout.data}; about 20 s on two idle cores")
        # Beside the rest: a start waits more than it works, until the replicas import.
        self.mlflow = mlflow_server.launch(self.settings, self.layout)
        self._bring_up(stop, meanwhile=self._make_first_key)
        self._tell("the doors answer; waiting for MLflow and the job API")
        mlflow_server.wait_started(self.mlflow, self.settings, self.layout)
        if self._head is not None:
            ray_head.wait_jobs(self._head)
        log.info("beside_answer")
        self._check_sockets()
        if self._options.demo:
            # Last: its first minute of sending would slow down everything above.
            self._demo = demo_process.launch(self.settings, self.layout, self.state.url)
        self._save("ready")

    def recover(self, stop: Stop) -> None:
        """After the head died: remove what is left of it and bring the hub up again on the same ports."""
        started = time.monotonic()
        self._save("recovering")
        self._end_head(grace_s=0)
        self._bring_up(stop)
        self._check_sockets()
        self.state.recoveries += 1
        self.state.last_recovery_s = round(time.monotonic() - started, 1)
        self._save("ready")

    def restart_mlflow(self) -> None:
        """Start the server again after it ended."""
        self._end(self.mlflow, grace_s=0)
        self.mlflow = mlflow_server.launch(self.settings, self.layout)
        self._save(self.state.phase)

    def stop(self, *, drain: bool) -> None:
        """Drain, then end every process of this hub; with `drain` off only the latter."""
        self._save("stopping")
        log.info("stopping")
        # Asked now, so that their goodbyes and the drain take the same seconds.
        for beside in (self._demo, self.mlflow):
            if beside is not None:
                processes.send(processes.members([beside.pid]), signal.SIGTERM)
        if drain and (self._head is not None or self._options.address) and not self.head_is_gone():
            self._drain()
        self._end(self._demo, grace_s=0.5)
        self._end_head(grace_s=RAY_GRACE_S)
        self._end(self.mlflow, grace_s=3.0)
        self.mlflow = None
        shutil.rmtree(self.layout.sockets, ignore_errors=True)
        self._save("stopped")
        log.info("stopped")

    def vital(self) -> list[processes.Process]:
        """Processes whose end means that the head is gone."""
        return self._vital

    def head_is_gone(self) -> bool:
        if self._options.address:
            return False
        return not self._vital or any(not processes.is_alive(one.pid, one.start) for one in self._vital)

    @property
    def new_key(self) -> str | None:
        """The admin key, when this start made it: the only time it is known."""
        return self._new_key

    def is_healthy(self) -> bool:
        """Whether the HTTP door answers."""
        return mlflow_server.answers(f"{self.state.url}/api/v1/health")

    def _make_first_key(self) -> None:
        """On the first start over this folder: the admin key, in the metadata store and in its file."""
        # Imported here, so that Ray starts meanwhile.
        from cluster.metadata.first_start import bootstrap_admin  # noqa: PLC0415

        self._new_key = bootstrap_admin(self.settings)
        if self._new_key is not None:
            write_secret(self.layout.admin_key, self._new_key)

    def _tell(self, what: str) -> None:
        """One line for who waits at the terminal; after the start nobody does."""
        if self.state.phase == "starting":
            print(f"[{time.monotonic() - self._began:3.0f} s] {what}", flush=True)

    def _bring_up(self, stop: Stop, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Head and deployment; the deploy driver imports while the head starts, and `meanwhile` runs."""
        settings, layout = self.settings, self.layout
        layout.make()
        chosen = ports.choose(str(layout.data))
        self._variables = ray_head.environment(settings, layout) | edge.environment(settings, layout, chosen)
        if self._options.address:
            # Its token is the operator's: it comes with the environment.
            for key in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
                self._variables.pop(key)
            ray_head.refuse_without_token(dict(os.environ))
            self._variables[JOINED] = "1"
            self.state.ray_address = self._options.address
        else:
            layout.ensure_token()
            self._head_process = ray_head.launch(settings, layout, chosen, self._variables)
            self.state.ray_pid = self._head_process.pid
            self._save(self.state.phase)
            self.state.ray_address = f"127.0.0.1:{chosen.gcs}"
        deploy = self._launch_driver("deploy")
        self._spare_port = chosen.fallback_http
        try:
            meanwhile()
            if self._head_process is not None:
                self._head = ray_head.wait_started(self._head_process, layout, chosen)
                self._vital = self._head.vital()
                self.state.jobs_url = self._head.jobs_url
                log.info("head_started")
                self._tell("Ray runs; starting shards, committer, query engine and doors")
            self._wait_driver(deploy, DEPLOY_DEADLINE_S, stop)
        finally:
            self._end(deploy, grace_s=0)
        log.info("deployed")
        if not processes.wait_until(lambda: self.is_healthy() or stop(), deadline_s=HEALTHY_DEADLINE_S):
            raise StartFailed("the HTTP door does not answer", hint=f"Logs are in {layout.logs} and {layout.sockets}.")

    def _drain(self) -> None:
        driver = self._launch_driver("drain")
        try:
            self._wait_driver(driver, DRAIN_DEADLINE_S, lambda: False)
        except StartFailed as failure:
            # Nothing acknowledged is lost: the journals are replayed by the next start.
            log.error("drain_failed", message=failure.message)
        finally:
            self._end(driver, grace_s=0)
        log.info("drained")

    def _launch_driver(self, module: str) -> subprocess.Popen[bytes]:
        with open(self.layout.logs / "deploy.log", "ab" if module == "drain" else "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", f"infra.runtime.{module}"],
                cwd=edge.ROOT,
                env={**os.environ, **self._variables},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_driver(self, driver: subprocess.Popen[bytes], deadline_s: float, stop: Stop) -> None:
        if driver.stdin is not None:
            with suppress(BrokenPipeError):
                driver.stdin.write(f"{self.state.ray_address}\n".encode())
                driver.stdin.close()

        def settled() -> bool:
            return driver.poll() is not None or stop() or self.head_is_gone()

        processes.wait_until(settled, deadline_s=deadline_s)
        if driver.poll() != 0:
            tail = ray_head.last_lines(self.layout.logs / "deploy.log", count=3)
            raise StartFailed(f"the hub's application did not come up: {tail}", hint=f"Logs are in {self.layout.logs}.")

    def _check_sockets(self) -> None:
        sessions = [one.pid for one in (self._head_process, self.mlflow) if one is not None]
        found = sockets.check([one.pid for one in processes.members(sessions)], self.settings)
        log.info("sockets_checked", listening=len(found))

    def check_spare(self) -> None:
        """The same check of Serve's spare proxy, once it runs: it starts after the hub is ready.

        Raises:
            SocketExposed: it listens where others can reach it.
        """
        if self._spare_port == 0 or self._head_process is None:
            return
        everyone = [one.pid for one in processes.members([self._head_process.pid])]
        spare = {one.pid for one in sockets.listeners_of(everyone) if one.port == self._spare_port}
        if spare:
            found = sockets.check(spare, self.settings)
            self._spare_port = 0
            log.info("spare_checked", listening=len(found))

    def _end_leftovers(self) -> None:
        """End what a killed supervisor left running: the sessions named in its state file, if they are still ours."""
        left = HubState.load(self.layout)
        if left is None:
            return
        mark = str(self.layout.data)
        for session in (left.ray_pid, left.mlflow_pid):
            ours = session and any(processes.mentions(one.pid, mark) for one in processes.members([session]))
            if ours:
                killed = processes.end_sessions([session], grace_s=0)
                log.warning("leftovers_ended", session=session, processes=len(killed))

    def _end_head(self, *, grace_s: float) -> None:
        if self._head_process is not None:
            processes.end_sessions([self._head_process.pid], grace_s=grace_s)
            ray_head.reap(self._head_process)
        self._head_process, self._head, self._vital = None, None, []

    def _end(self, process: subprocess.Popen[bytes] | None, *, grace_s: float) -> None:
        if process is None:
            return
        processes.end_sessions([process.pid], grace_s=grace_s)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)

    def _save(self, phase: str) -> None:
        self.state.phase = phase
        self.state.ray_pid = self._head_process.pid if self._head_process else 0
        self.state.mlflow_pid = self.mlflow.pid if self.mlflow else 0
        self.state.save(self.layout)
