"""What makes a start short: workers that start once, packages that are left out, edits of modules that come later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray._private.workers.setup_worker as setup_worker

from infra.runtime import worker_hook, worker_start
from infra.runtime.worker_start import variables_of


def words(*, language: str = "PYTHON", **context: object) -> list[str]:
    return [
        "default_worker.py",
        "--node-ip-address=127.0.0.1",
        f"--serialized-runtime-env-context={json.dumps(context)}",
        f"--language={language}",
    ]


def test_a_worker_that_needs_a_few_variables_starts_at_once() -> None:
    wanted = {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "a.b", "HUB_PORT": "1"}
    empty: dict[str, object] = {"command_prefix": [], "java_jars": [], "override_worker_entrypoint": None}
    assert variables_of(words(env_vars=wanted, py_executable=sys.executable, **empty)) == wanted
    assert variables_of(words()) == {}


@pytest.mark.parametrize(
    "context",
    [
        {"env_vars": {"PYTHONPATH": "/elsewhere"}},
        {"env_vars": {"LD_PRELOAD": "/a.so"}},
        {"env_vars": {"HUB_PORT": "${OTHER}"}},
        {"py_executable": "/another/python"},
        {"command_prefix": ["nice"]},
        {"override_worker_entrypoint": "/another/worker.py"},
        {"something_new": True},
    ],
)
def test_a_worker_that_needs_more_is_left_to_ray(context: dict[str, object]) -> None:
    assert variables_of(words(**context)) is None


def test_only_python_workers_with_a_context_are_ours() -> None:
    assert variables_of(words(language="JAVA")) is None
    assert variables_of(["default_worker.py"]) is None


def test_the_worker_sees_its_variables_its_options_and_its_own_folder(tmp_path: Path) -> None:
    worker = tmp_path / "default_worker.py"
    worker.write_text("import json, os, sys; print(json.dumps([sys.argv, sys.path[0], os.environ['HUB_PORT']]))")
    command = [sys.executable, worker_start.__file__, str(worker), *words(env_vars={"HUB_PORT": "7"})[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    argv, folder, port = json.loads(done.stdout)
    assert argv == [str(worker), "--node-ip-address=127.0.0.1"]
    assert (folder, port) == (str(tmp_path), "7")


def test_the_rest_goes_by_the_program_beside_the_worker(tmp_path: Path) -> None:
    (tmp_path / "setup_worker.py").write_text("import sys; print(sys.argv[1:])")
    given = [str(tmp_path / "default_worker.py"), *words(py_executable="/another/python")[1:]]
    done = subprocess.run([sys.executable, worker_start.__file__, *given], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(given)


def test_rays_own_program_is_the_one_replaced() -> None:
    """Another name or place in a new Ray would leave workers as slow as they were, and nothing would tell."""
    given = f"--python_worker_command=/usr/bin/python {setup_worker.__file__} /r/default_worker.py --x=1"
    # In a process of its own: the module hides parts of Ray from the process it is imported in.
    code = "import sys; from infra.runtime.head_process import *; print(*with_own_worker_start(sys.argv[1:]), sep='|')"
    done = subprocess.run([sys.executable, "-c", code, given, "--y"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split("|") == [given.replace(setup_worker.__file__, worker_start.__file__), "--y"]


def test_hidden_packages_look_absent_and_later_modules_are_edited() -> None:
    code = """
from infra.runtime import imports
imports.hide("csv")
imports.after("colorsys", lambda module: setattr(module, "edited", True))
import json
imports.after("json", lambda module: setattr(module, "edited", True))
try:
    import csv
except ModuleNotFoundError as error:
    print(error.name)
import colorsys
print(colorsys.edited, colorsys.rgb_to_hsv(0, 0, 0)[2], json.edited)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["csv", "True", "0", "True"]


def test_an_edit_that_fails_fails_the_import() -> None:
    code = """
from infra.runtime import imports
imports.after("colorsys", lambda module: 1 / 0)
try:
    import colorsys
except ZeroDivisionError:
    print("closed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "closed"


def test_the_spare_proxy_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class ProxyStateManager:
        def _start_fallback_proxy_if_needed(self, node_id: str) -> None:
            started.append(node_id)

    worker_hook.start_spare_later(SimpleNamespace(ProxyStateManager=ProxyStateManager))  # type: ignore[arg-type]
    ProxyStateManager()._start_fallback_proxy_if_needed("first")
    monkeypatch.setattr(worker_hook, "SPARE_AFTER_S", 0.0)
    ProxyStateManager()._start_fallback_proxy_if_needed("second")
    assert started == ["second"]


def test_what_the_hook_edits_is_there() -> None:
    from grpc.aio import _server
    from ray.serve._private import proxy_state

    assert callable(proxy_state.ProxyStateManager._start_fallback_proxy_if_needed)
    assert callable(_server.Server.add_insecure_port)
    assert callable(_server.Server.add_secure_port)


@pytest.mark.parametrize("verb", ["up", "down", "status"])
def test_commands_of_the_life_of_a_hub_import_little(verb: str) -> None:
    code = f"import sys; from infra.cli.application import build; build({verb!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pyarrow", "numpy", "pandas", "duckdb", "ray", "sqlalchemy", "httpx2", "structlog"}
    assert heavy.isdisjoint(done.stdout.split())
