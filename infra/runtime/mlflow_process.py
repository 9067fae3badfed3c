"""`mlflow server` in one process. Run as `python -m infra.runtime.mlflow_process FOLDER PORT`.

MLflow's own command imports itself, then starts a second Python that imports it again: five seconds more of one core
while the rest of the hub starts. Here the same server runs where its command was understood, with the same options:
SQLite and artifacts under FOLDER, loopback, one worker, MLflow's own check of host and origin on.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

HOST = "127.0.0.1"
_NICE = 10


def main(arguments: list[str]) -> int:
    folder, port = Path(arguments[0]), int(arguments[1])
    # It shares the cores with the doors, and nobody waits for it as senders wait for those.
    os.nice(_NICE)
    # Three thousand modules, and nothing to collect until they are there: a tenth of the time.
    gc.disable()
    # The default of the command, which its option of that name sets; read by the modules below.
    os.environ["MLFLOW_ENABLE_WORKSPACES"] = "false"
    import uvicorn.main  # noqa: PLC0415 - after the variables above
    from mlflow import server  # noqa: PLC0415
    from mlflow.server.handlers import initialize_backend_stores  # noqa: PLC0415

    def here(command: list[str], *, extra_env: dict[str, str], **_: Any) -> NoReturn:
        """Become what would have been started: `PYTHON -m uvicorn OPTIONS…`."""
        os.environ.update(extra_env)
        gc.enable()
        uvicorn.main.main(command[3:])
        sys.exit(0)

    store, artifacts = f"sqlite:///{folder / 'mlflow.db'}", "mlflow-artifacts:/"
    initialize_backend_stores(store, store, artifacts)
    vars(server)["_exec_cmd"] = here
    server._run_server(
        file_store_path=store,
        registry_store_uri=store,
        default_artifact_root=artifacts,
        serve_artifacts=True,
        artifacts_only=False,
        artifacts_destination=str(folder / "artifacts"),
        host=HOST,
        port=port,
        workers=1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
