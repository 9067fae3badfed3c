"""Where a running hub keeps its files, and the state file by which others find it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.errors import HubError
from cluster.settings import Settings


class StartRefused(HubError):
    """The hub will not start like this: it would be unsafe, or it is already running."""

    code = "start_refused"


class StartFailed(HubError):
    """A part of the hub did not come up."""

    code = "start_failed"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one hub, all derived from its data folder."""

    data: Path

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        return cls(settings.data.resolve())

    @classmethod
    def over(cls, data: Path | None) -> Layout:
        """That of the hub over `--data`, else HUB_DATA, else ./.llmhub."""
        return cls((data or Path(os.environ.get("HUB_DATA") or Settings().data)).resolve())

    @property
    def state(self) -> Path:
        return self.data / "hub.json"

    @property
    def admin_key(self) -> Path:
        return self.data / "admin.key"

    @property
    def token(self) -> Path:
        return self.data / "ray.token"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def mlflow(self) -> Path:
        return self.data / "mlflow"

    @property
    def sockets(self) -> Path:
        """Short folder for Unix sockets: their paths may not pass 107 bytes, and Ray and HAProxy add about 80."""
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:8]
        return Path(tempfile.gettempdir()) / f"hub-{digest}"

    def make(self) -> None:
        """Create the folders, private to this user.

        Raises:
            StartRefused: the socket folder exists and belongs to somebody else.
        """
        # Prompts and answers are kept here: nobody else on the machine reads them, unless the operator opens it.
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.logs, self.mlflow):
            folder.mkdir(exist_ok=True)
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        owner = self.sockets.lstat()
        if self.sockets.is_symlink() or owner.st_uid != os.getuid():
            # In a shared temporary folder anybody can make that name first.
            raise StartRefused(f"{self.sockets} belongs to another user", hint="Remove it or choose another --data.")
        self.sockets.chmod(0o700)

    def ensure_token(self) -> Path:
        """The secret every Ray process of this hub must show; made on the first start, mode 600.

        Raises:
            StartRefused: the file is readable by others or too short to be a secret.
        """
        write_secret(self.token, secrets.token_hex(32), replace=False)
        mode = self.token.stat().st_mode & 0o777
        if mode & 0o077:
            raise StartRefused(f"{self.token} has mode {mode:o}", hint=f"chmod 600 {self.token}")
        if len(self.token.read_text().strip()) < 32:
            raise StartRefused(f"{self.token} holds no usable token", hint="Remove the file; a new one is made.")
        return self.token


def write_secret(path: Path, text: str, *, replace: bool = True) -> None:
    """Write `text` with mode 600 from the first byte; with `replace` off an existing file stays."""
    if not replace and path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(slots=True)
class HubState:
    """What hub.json says: enough for `status`, `down` and clients on this machine."""

    # starting, ready, recovering, stopping or stopped.
    phase: str
    supervisor_pid: int
    # Start time of that process in clock ticks since boot; a pid alone may have been given to another.
    supervisor_start: int
    url: str
    otlp_grpc: str
    mlflow: str
    # Address of the cluster's GCS and of its job API.
    ray_address: str = ""
    jobs_url: str = ""
    ray_pid: int = 0
    mlflow_pid: int = 0
    started_at: str = ""
    version: str = ""
    # How often the head was started again, and how long the last time took until it served.
    recoveries: int = 0
    last_recovery_s: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)

    def save(self, layout: Layout) -> None:
        """Replace hub.json at once, so that a reader never sees half of it."""
        temporary = layout.state.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(layout.state)

    @classmethod
    def load(cls, layout: Layout) -> HubState | None:
        """The last saved state; None when there is none or it cannot be read."""
        try:
            return cls(**json.loads(layout.state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
