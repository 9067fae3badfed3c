"""Makes `.venv` with the pinned dependencies, using the standard library only. A second start finds it made."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "llmhub.stamp"
CONSTRAINTS = ROOT / "infra" / "constraints.txt"
COMPILED_STAMP = VENV / "compiled.stamp"
ROOMS = ("cluster", "models", "actors", "serving", "pipelines", "infra")
# Those with functions that become machine code.
COMPILED_ROOMS = ("cluster", "actors", "models")
# What decides the content of .venv: when one of these changes, it is refreshed.
SOURCES = (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__).resolve())

TORCH = "2.13.0"
OLDEST_PYTHON = (3, 11)
_SIZE = "3 GB"


class SetupFailed(Exception):
    """The environment could not be made; the message says what to do."""


def make_ready() -> None:
    """Make or refresh `.venv` and the web build; returns at once when nothing changed.

    Raises:
        SetupFailed: with a message for a person.
    """
    wanted = stamp_of(SOURCES)
    if not (PYTHON.exists() and _is(STAMP, wanted)):
        started = time.monotonic()
        made = PYTHON.exists()
        _say("the dependencies changed" if made else f"first start: .venv is made, 1 to 3 minutes, {_SIZE} of disk")
        _make_venv()
        _install()
        STAMP.write_text(wanted)
        _say(f"environment ready in {time.monotonic() - started:.0f} s")
    _compile(wanted)
    if (ROOT / "serving" / "web" / "package.json").exists() and (ROOT / "infra" / "web.py").exists():
        # web.py has its own stamp over the sources of the page.
        _call([str(PYTHON), "-c", "from infra import web; web.build()"], "the web page could not be built")


def _is(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _compile(environment: str) -> None:
    """Bytecode of the rooms and machine code of the hot loops, so that no start of the hub does it while it starts."""
    wanted = f"{environment} {stamp_of(compiled_sources())}"
    if _is(COMPILED_STAMP, wanted):
        return
    started = time.monotonic()
    _say("compiling the loops that read events to machine code, once for each state of the sources: up to a minute")
    _call([str(PYTHON), "-m", "compileall", "-q", *ROOMS], "the sources could not be compiled")
    _call([str(PYTHON), "-m", "actors.warm"], "the loops could not be compiled")
    COMPILED_STAMP.write_text(wanted)
    _say(f"compiled in {time.monotonic() - started:.0f} s")


def compiled_sources() -> tuple[Path, ...]:
    """Files with functions that become machine code: those that name `cluster.compiled`; the cache goes by them too."""
    files = sorted(path for room in COMPILED_ROOMS for path in (ROOT / room).rglob("*.py"))
    return tuple(path for path in files if path.name == "compiled.py" or b"cluster.compiled" in path.read_bytes())


def stamp_of(sources: tuple[Path, ...]) -> str:
    """Fingerprint of the files that decide the environment, and of the interpreter it is made for."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {platform.machine()}".encode())
    for source in sources:
        content = source.read_bytes() if source.exists() else b""
        digest.update(f"{source.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _make_venv() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise SetupFailed(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed, this is {sys.version.split()[0]}"
        )
    if PYTHON.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupFailed("this Python has no ensurepip. On Debian and Ubuntu: apt install python3-venv")
    _say("making .venv")
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupFailed(
            f"no virtual environment could be made ({error}). On Debian: apt install python3-venv"
        ) from error


def _install() -> None:
    _say("installing the pinned dependencies and their bytecode")
    _call([*_pip(), "install", "--quiet", "uv"], "pip could not install uv")
    if sys.platform == "linux" and platform.machine() == "x86_64" and os.environ.get("HUB_TORCH") != "default":
        _install_cpu_torch()
    command = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--no-sources"]
    # Compiled here once: every Ray worker imports the same thousand files, and may not write bytecode itself.
    command.append("--compile-bytecode")
    if CONSTRAINTS.exists():
        command += ["-c", str(CONSTRAINTS)]
    _call_briefly([*command, "-e", ".[test]"], "the dependencies could not be installed")


def _install_cpu_torch() -> None:
    """The CPU build first, and never by accident the several gigabytes of the CUDA one."""
    installed = subprocess.run(
        [str(PYTHON), "-c", "import importlib.metadata as m; print(m.version('torch'))"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if installed.startswith(TORCH):
        return
    if _succeeds([*_pip(), "install", "--quiet", f"torch=={TORCH}+cpu"]):
        return
    _say("no CPU build of torch at the configured index, asking PyTorch's own")
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
    if _succeeds([*uv, "--torch-backend", "cpu", f"torch=={TORCH}"]):
        return
    raise SetupFailed(
        f"no CPU build of torch {TORCH} could be had. HUB_TORCH=default takes the ordinary build (large, for GPUs)"
    )


def _pip() -> list[str]:
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def _call_briefly(command: list[str], failure: str) -> None:
    """As `_call`, without the line for each of two hundred packages."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                print(f"        {line.strip()}", flush=True)
    if running.returncode != 0:
        raise SetupFailed(f"{failure}; the lines above say why")


def _call(command: list[str], failure: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SetupFailed(f"{failure}; the lines above say why")


def _say(text: str) -> None:
    print(f"[setup] {text}", flush=True)
