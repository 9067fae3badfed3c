"""Bytes made durable: fsync of files and folders, and atomic replacement. delta-rs and pyarrow do neither."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def sync_file(path: Path) -> None:
    """fsync the file's bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """fsync the folder, so that names made or removed in it survive a power loss."""
    sync_file(path)


def make_folder(path: Path) -> None:
    """Make the folder and its parents, each made durable in the one above."""
    missing: list[Path] = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def replace(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, durably; of two writers at once, one is the last."""
    # A name of its own for each writer: with a shared one, the other could move half of this content into place.
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.new")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def free_bytes(folder: Path) -> int:
    """Bytes the disk of the folder has left for this user."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
