"""How much a question has to read, and whether that is too much for one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1024


@dataclass(frozen=True, slots=True)
class Volume:
    """Files left after pruning; a file that two ranges of a question need counts for each."""

    file_count: int
    row_count: int
    size_bytes: int


def why_job(volume: Volume, *, bytes_max: int) -> str | None:
    """Why a question that reads so much is to run as a job; None where one node scans it.

    Args:
        bytes_max: what one node scans for a question; 0 for no border.
    """
    if not bytes_max or volume.size_bytes <= bytes_max:
        return None
    return f"{told(volume)}, over the {_size(bytes_max)} that one node scans for a question"


def told(volume: Volume) -> str:
    """`1,234,567 events in 40 files of 3.1 GiB`."""
    files = "1 file" if volume.file_count == 1 else f"{volume.file_count:,} files"
    return f"{volume.row_count:,} events in {files} of {_size(volume.size_bytes)}"


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.4g} {_UNITS[unit]}"
