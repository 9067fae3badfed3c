"""Free the disk of files that no reader needs: compacted away, told anew, or staged and never committed."""

from __future__ import annotations

from pathlib import Path

from deltalake import DeltaTable

from cluster.lake.changes import inside
from cluster.lake.tables import uri


def vacuum(lake: Path, name: str, *, age_hours: int) -> tuple[int, int]:
    """Delete files of a table that left it, or were written and never became part of it, `age_hours` ago or earlier.

    A reader that began with a snapshot, or asks for a version, no older than that finds all of its files. Versions
    older than the table's log retention are forgotten as well. Nothing is committed, so no writer is disturbed.

    Args:
        age_hours: >= 1, so that a file that a running seal or compaction has just written is never taken.

    Returns:
        Files deleted and bytes freed.

    Raises:
        OSError, deltalake.exceptions.DeltaError: the disk or the log could not be read; what is left comes next time.
    """
    location = uri(lake, name)
    if not DeltaTable.is_deltatable(location):
        return 0, 0
    handle = DeltaTable(location)
    # Only asked: delta-rs would add two commits of its own for each vacuum.
    expired = handle.vacuum(
        retention_hours=max(1, age_hours), dry_run=True, enforce_retention_duration=False, full=True
    )
    count = size_bytes = 0
    for path in (Path(location) / inside(one) for one in expired):
        if path.suffix == ".parquet" and path.is_file():
            size_bytes += path.stat().st_size
            path.unlink()
            count += 1
    handle.cleanup_metadata()
    return count, size_bytes
