"""What people said of found anomalies: the words that move thresholds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, select

from cluster.clock import Clock
from cluster.errors import RequestInvalid
from cluster.metadata.engine import Database
from cluster.metadata.schema import anomaly_feedback
from cluster.tenancy import TenantId

COMMENT_LENGTH_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word.

    Attributes:
        detector, entity: whose threshold it moves.
        is_true: whether it was a real anomaly.
        score: of the anomaly.
        told_by: key id.
        drivers: of the anomaly, largest share first; None of one that was judged before they were kept.
    """

    anomaly_id: str
    detector: str
    entity: str
    is_true: bool
    score: float
    comment: str
    told_by: str
    drivers: tuple[Mapping[str, Any], ...] | None = None


class FeedbackStore:
    """Reads and writes verdicts; a later word on the same anomaly takes the place of the earlier one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, tenant: TenantId, verdict: Verdict) -> None:
        """Keep a verdict.

        Raises:
            RequestInvalid: the comment is too long.
        """
        if len(verdict.comment) > COMMENT_LENGTH_MAX:
            raise RequestInvalid(f"the comment is over {COMMENT_LENGTH_MAX} characters")
        mine = (anomaly_feedback.c.tenant_id == tenant) & (anomaly_feedback.c.anomaly_id == verdict.anomaly_id)
        with self._database.writing() as connection:
            connection.execute(delete(anomaly_feedback).where(mine))
            connection.execute(
                insert(anomaly_feedback).values(
                    tenant_id=tenant,
                    anomaly_id=verdict.anomaly_id,
                    detector=verdict.detector,
                    entity=verdict.entity,
                    is_true=int(verdict.is_true),
                    score=verdict.score,
                    comment=verdict.comment,
                    told_by=verdict.told_by,
                    told_at_us=self._clock.now_us(),
                    drivers=None if verdict.drivers is None else json.dumps(verdict.drivers),
                )
            )

    def state(self) -> tuple[int, int]:
        """Number and latest instant of all verdicts: another pair means there are new ones."""
        with self._database.reading() as connection:
            told = select(func.count(), func.coalesce(func.max(anomaly_feedback.c.told_at_us), 0))
            count, last_us = connection.execute(told.select_from(anomaly_feedback)).one()
        return int(count), int(last_us)

    def labels(self, tenant: TenantId) -> dict[str, bool]:
        """The verdict on each anomaly of a tenant."""
        mine = anomaly_feedback.c.tenant_id == tenant
        with self._database.reading() as connection:
            rows = connection.execute(select(anomaly_feedback).where(mine)).mappings().all()
        return {row["anomaly_id"]: bool(row["is_true"]) for row in rows}

    def by_threshold(self) -> dict[tuple[str, str, str], list[Verdict]]:
        """(tenant, detector, entity) -> verdicts in the order they were told."""
        found: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
        with self._database.reading() as connection:
            rows = connection.execute(select(anomaly_feedback).order_by(anomaly_feedback.c.told_at_us)).mappings()
            for row in rows:
                key = (row["tenant_id"], row["detector"], row["entity"])
                found[key].append(
                    Verdict(
                        row["anomaly_id"],
                        row["detector"],
                        row["entity"],
                        is_true=bool(row["is_true"]),
                        score=float(row["score"]),
                        comment=row["comment"],
                        told_by=row["told_by"],
                        drivers=None if row["drivers"] is None else tuple(json.loads(row["drivers"])),
                    )
                )
        return dict(found)
