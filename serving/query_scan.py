"""What a question has to read of the raw events, and the border beyond which it is a job."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import HubError
from cluster.lake.scan import Snapshot, files
from cluster.tenancy import TenantScope
from models.query.blocks import in_blocks, parts_of
from models.query.kinds import Question
from models.query.plan import Floors
from models.query.volume import Volume, told, why_job


@dataclass(frozen=True, slots=True)
class Scan:
    """A question that can run as a job.

    Attributes:
        version: of the events, that it is about.
        now_us: what its relative times stand on.
        floors: what has expired of the rows it may see.
        is_large: one node is not to scan it.
        reason: why; where it is not large, what it reads.
    """

    volume: Volume
    version: int
    now_us: int
    floors: Floors
    is_large: bool
    reason: str


class ScanTooLarge(HubError):
    """The question needs more events than one node scans for it; as a job it is answered."""

    code = "scan_too_large"
    hint = "POST it to /api/v1/query by itself: it then runs as a job. Or ask for a shorter range."

    def __init__(self, message: str, scan: Scan) -> None:
        super().__init__(message)
        self.scan = scan


def scan_of(scope: TenantScope, question: Question, snapshot: Snapshot, *, now_us: int, bytes_max: int) -> Scan | None:
    """What a question reads; None where no job would answer it.

    Args:
        snapshot: of the events.
        bytes_max: what one node scans for a question; 0 for no border.
    """
    if not in_blocks(question):
        return None
    # Files that two ranges need are read twice.
    needed = [one for part in parts_of(question) for one in files(scope, snapshot, part.span.from_us, part.span.to_us)]
    volume = Volume(len(needed), sum(max(0, one.row_count) for one in needed), sum(one.size_bytes for one in needed))
    why = why_job(volume, bytes_max=bytes_max)
    return Scan(volume, snapshot.version, now_us, question.floors, why is not None, why or told(volume))


def refuse_large(scope: TenantScope, question: Question, snapshot: Snapshot, *, now_us: int, bytes_max: int) -> None:
    """Raises:
    ScanTooLarge: the question reads more than one node is to scan, and a job would answer it.
    """
    found = scan_of(scope, question, snapshot, now_us=now_us, bytes_max=bytes_max)
    if found is not None and found.is_large:
        raise ScanTooLarge(f"the question reads {found.reason}", found)
