"""`ray start` without what the hub does not use. Run as `python -m infra.runtime.head_process start --head …`.

Ray Client would be one more port that runs code, and each dashboard module one more Python process: on two cores they
are half of the time a restart takes. Only the job API stays, which `ray job submit` needs.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from ray._private import ray_constants, services
from ray.scripts import scripts

JOB_API_ONLY = ["--modules-to-load=JobHead", "--disable-frontend"]


def main() -> None:
    launch = services.start_ray_process

    def start_ray_process(command: list[str], process_type: str, *rest: Any, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, *JOB_API_ONLY]
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            # Workers made in advance lack the hub's hook, so none of its actors could use them.
            command = [re.sub(r"^(--num_prestart_python_workers=)\d+$", r"\g<1>0", word) for word in command]
        return launch(command, process_type, *rest, **options)

    services.start_ray_process = start_ray_process
    # The answer "not installed" is the only way to have no Ray Client server.
    scripts.get_ray_client_dependency_error = lambda: ImportError("switched off")  # type: ignore[attr-defined]
    sys.argv[0] = "ray"
    scripts.main()


if __name__ == "__main__":
    main()
