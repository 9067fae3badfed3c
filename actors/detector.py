"""Scores every sealed minute of every tenant, and keeps what it finds: an incident, its drivers, and what was changed.

It looks at the last hours anew each minute, and further back when late rows came, a day at most: so restarts, gaps and
a past told at once need no state of their own. An incident has the same id however often it is found, and a row is
written only when something about it is new.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Protocol
from uuid import uuid4

import pyarrow as pa
import structlog

from actors.evidence import Events, Evidence
from actors.judges import Judge, Judges, series_beside, series_of
from actors.levels import Levels
from actors.minutes import Minutes
from cluster.clock import Clock
from cluster.contract.found import FOUND_SCHEMA
from cluster.errors import HubError
from cluster.lake.scan import TableReader, read_rows
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import TABLES
from cluster.metadata.feedback import FeedbackStore, Verdict
from cluster.settings import Settings
from models.aggregate.rollup import MINUTE_US
from models.anomaly.fleet import Fleet
from models.anomaly.incidents import Incident, Subject, follow, newest
from models.anomaly.recent import KIND as RECENT
from models.anomaly.recent import THRESHOLD, Recent
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Series
from models.anomaly.side_by_side import FLEET

log = structlog.get_logger("detector")

TABLE: Final = "anomalies"
# Rows that are scored each minute: longer than any patch, and than an incident is likely to last.
LOOK_US: Final = 3 * 3_600_000_000
# The first look of a model, and the furthest that late rows are looked for.
FIRST_LOOK_US: Final = 24 * 3_600_000_000
# Rows that entities are judged beside each other in: half of it is for levels to be found. Minutes are kept a day.
BESIDE_LOOK_US: Final = 23 * 3_600_000_000
# A minute is read this long after its end and the age of a seal: seals are committed by then.
AFTER_S: Final = 1.5
_INCIDENTS_MAX: Final = 200


class FoundPort(Protocol):
    """What the detector needs of the committer; see `Committer`."""

    def found_sequence(self, journal: str) -> int: ...

    def commit_found(self, journal: str, sequence: int, files: Sequence[StagedFile]) -> int: ...


class Detector:
    """One region's. `tick` is called about once a second, from one thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        commits: FoundPort,
        judges: Judges,
        feedback: FeedbackStore,
        levels: Levels | None = None,
    ) -> None:
        """
        Args:
            levels: None follows in a thread.
        """
        self._settings = settings
        self._clock = clock
        self._commits = commits
        self._judges = judges
        self._feedback = feedback
        self._levels = levels or Levels(settings.lake)
        self._journal = f"detector/{settings.region}"
        self._minutes = Minutes(settings.lake, keep_us=FIRST_LOOK_US)
        self._events = Events(settings.lake)
        self._known: dict[str, dict[str, Incident]] = {}
        self._judged: dict[str, Judge] = {}
        self._verdicts: dict[tuple[str, str, str], list[Verdict]] = {}
        self._feedback_state = (-1, -1)
        # Of each tenant, the version and the end of the rows that were judged beside each other last.
        self._besides: dict[str, tuple[int, int]] = {}
        self._scored_us = -1
        self._states: dict[str, dict[str, str]] = {}
        self._restore()

    def states(self) -> dict[str, dict[str, str]]:
        """Of each tenant, why entities have no score; `*` stands for all of them."""
        return {tenant: dict(reasons) for tenant, reasons in self._states.items()}

    def tick(self) -> int:
        """Score the newest sealed minute if that was not done yet; the rows that were written.

        Raises:
            HubError, OSError: a table could not be read or written; the next call does it again.
        """
        ready_us = self._clock.now_us() - int((self._settings.seal_age_s + AFTER_S) * 1e6)
        minute_us = ready_us // MINUTE_US * MINUTE_US
        if minute_us <= self._scored_us:
            return 0
        began_s = self._clock.monotonic_s()
        fresh = self._minutes.refresh(minute_us)
        self._read_feedback()
        found: dict[str, list[Incident]] = {}
        for tenant in self._minutes.tenants:
            # Without new rows nothing new can be found; what is open may have ended.
            if tenant in fresh or self._open(tenant):
                changed = self._look(tenant, minute_us, fresh_us=fresh.get(tenant, minute_us))
                changed += self._look_beside(tenant, minute_us, changed)
                if changed:
                    # Of an incident that both told of, the later row has what the earlier one says.
                    found[tenant] = list({one.anomaly_id: one for one in changed}.values())
        written = self._write(found) if found else 0
        self._scored_us = minute_us
        if fresh:
            took_s = self._clock.monotonic_s() - began_s
            after_s = (self._clock.now_us() - minute_us) / 1e6
            log.info("scored", tenants=len(fresh), written=written, took_s=round(took_s, 3), after_s=round(after_s, 3))
        return written

    def _look(self, tenant: str, minute_us: int, *, fresh_us: int) -> list[Incident]:
        reasons: dict[str, str] = {}
        self._states[tenant] = reasons
        judge = self._judges.of(tenant)
        # Another model is asked about the whole day: it may know better what was unusual in it.
        first = self._judged.get(tenant) is not judge
        # A row is judged beside those before it, so what came late changes the look of what follows it.
        late_us = max(fresh_us - LOOK_US, minute_us - FIRST_LOOK_US)
        from_us = minute_us - FIRST_LOOK_US if first else min(minute_us - LOOK_US, late_us)
        try:
            named = series_of(judge, self._minutes.rows(tenant, from_us), from_us=from_us, to_us=minute_us)
        except NotEnoughData as error:
            reasons[FLEET] = error.message
            return []
        self._judged[tenant] = judge
        self._known.setdefault(tenant, {})
        changed: list[Incident] = []
        for name, one in named.items():
            try:
                changed += self._score(tenant, judge, name, one)
            except NotEnoughData as error:
                reasons[name] = error.message
        worst = sorted(changed, key=lambda one: -one.score)[:_INCIDENTS_MAX]
        return sorted(worst, key=lambda one: one.started_us)

    def _look_beside(self, tenant: str, minute_us: int, changed: Sequence[Incident]) -> list[Incident]:
        """Judge entities beside each other, once each row of theirs, next to what was just found of each alone."""
        beside = self._judges.beside(tenant)
        if beside is None:
            return []
        step_us = beside.model.detector.step_s * 1_000_000
        to_us = minute_us // step_us * step_us
        if self._besides.get(tenant) == (beside.version, to_us):
            return []
        self._besides[tenant] = (beside.version, to_us)
        from_us = to_us - BESIDE_LOOK_US
        try:
            series = series_beside(beside, self._minutes.rows(tenant, from_us), from_us=from_us, to_us=to_us)
            scores = beside.model.score(series)
        except NotEnoughData as error:
            self._states.setdefault(tenant, {})[beside.model.kind] = error.message
            return []
        before = self._known.setdefault(tenant, {}) | {one.anomaly_id: one for one in changed}
        found: list[Incident] = []
        for name, one in scores.items():
            known = [told for told in before.values() if told.entity == name and told.ended_us > from_us]
            verdicts = self._verdicts.get((tenant, beside.model.kind, name), [])
            subject, threshold = Subject(tenant, name, beside.version), beside.model.threshold
            found += follow(
                subject, beside.model, series[name], scores=one, threshold=threshold, known=known, verdicts=verdicts
            )
        return sorted(found, key=lambda one: -one.score)[:_INCIDENTS_MAX]

    def _score(self, tenant: str, judge: Judge, name: str, series: Series) -> list[Incident]:
        known = [
            one
            for one in self._known[tenant].values()
            # By whatever model it was found: the next one is not to tell it again.
            if one.entity == name and one.ended_us > series.start_us
        ]
        subject = Subject(tenant, name, judge.version)
        kind = RECENT if judge.fleet is None else judge.fleet.kind
        verdicts = self._verdicts.get((tenant, kind, name), [])
        model: Fleet | Recent
        if judge.fleet is None:
            model = Recent.of(series)
            scores, threshold = model.scores, THRESHOLD
        else:
            model = judge.fleet
            now_us = series.start_us + series.rows * MINUTE_US
            threshold = self._levels.of(tenant, judge, name, now_us)
            scores = model.score(series, name)
        return follow(subject, model, series, scores=scores, threshold=threshold, known=known, verdicts=verdicts)

    def _open(self, tenant: str) -> bool:
        return any(one.state == "open" for one in self._known.get(tenant, {}).values())

    def _write(self, found: dict[str, list[Incident]]) -> int:
        """Commit what changed, once; only then is it known."""
        sequence = self._commits.found_sequence(self._journal) + 1
        token = f"found-{sequence:012d}-{uuid4().hex}"
        staged: list[StagedFile] = []
        for tenant, changed in found.items():
            rows = self._rows(tenant, changed)
            staged += stage(self._settings.lake, TABLES[TABLE], rows, tenant_id=tenant, token=token)
        self._commits.commit_found(self._journal, sequence, staged)
        for tenant, changed in found.items():
            self._known[tenant] |= {one.anomaly_id: one for one in changed}
            log.info("found", tenant=tenant, incidents=len(changed), sequence=sequence)
        return sum(len(changed) for changed in found.values())

    def _rows(self, tenant: str, changed: Sequence[Incident]) -> pa.Table:
        at_us = self._clock.now_us()
        rows = []
        for one in changed:
            dimensions = dimensions_of(one.entity)
            evidence = self._evidence(tenant, one, dimensions)
            rows.append(row_of(one, evidence, dimensions, at_us=at_us))
        return pa.Table.from_pylist(rows, FOUND_SCHEMA)

    def _evidence(self, tenant: str, one: Incident, dimensions: dict[str, str | None]) -> Evidence:
        try:
            return self._events.around(tenant, dimensions, one.started_us, one.ended_us)
        except (HubError, OSError) as error:
            # An incident without its examples is better than none.
            log.warning("no_evidence", tenant=tenant, error=str(error)[:200])
            return Evidence()

    def _read_feedback(self) -> None:
        state = self._feedback.state()
        if state != self._feedback_state:
            self._feedback_state, self._verdicts = state, self._feedback.by_threshold()

    def _restore(self) -> None:
        """What was found in the last day, so that it is neither told again nor left open."""
        snapshot = TableReader(self._settings.lake, TABLE).refresh()
        from_us = self._clock.now_us() - FIRST_LOOK_US
        for tenant, files in snapshot.by_tenant.items():
            told = [one for file in files if file.to_us >= from_us for one in incidents_of(read_rows(file.path))]
            # A tenant with any row was looked at before.
            self._known[tenant] = newest(told)


def dimensions_of(entity: str) -> dict[str, str | None]:
    """The dimensions in the text of an `Entity`; none of the fleet as a whole."""
    if entity == FLEET:
        return {}
    parts = (part.partition("=") for part in entity.split(",") if "=" in part)
    return {name: value or None for name, _, value in parts}


def row_of(one: Incident, evidence: Evidence, dimensions: dict[str, str | None], *, at_us: int) -> dict[str, object]:
    """A row of FOUND_SCHEMA."""
    return {
        "anomaly_id": one.anomaly_id,
        "revision": one.revision,
        "detected_at": at_us,
        "detector": one.detector,
        "model_version": one.model_version,
        "entity": one.entity,
        "dimensions": json.dumps(dimensions),
        "measures": json.dumps(one.measures),
        "started_at": one.started_us,
        "ended_at": one.ended_us,
        "peak_at": one.peak_us,
        "score": one.score,
        "threshold": one.threshold,
        "severity": one.severity,
        "state": one.state,
        "drivers": json.dumps(one.drivers),
        "baseline": json.dumps(one.baseline),
        "trace_ids": json.dumps(evidence.trace_ids),
        "changes": json.dumps(evidence.changes),
    }


def incidents_of(rows: pa.Table) -> list[Incident]:
    """Rows of the table as incidents."""
    instants = {name: rows.column(name).cast(pa.int64()).to_pylist() for name in ("started_at", "ended_at", "peak_at")}
    return [
        Incident(
            anomaly_id=row["anomaly_id"],
            revision=row["revision"],
            detector=row["detector"],
            model_version=row["model_version"],
            entity=row["entity"],
            started_us=instants["started_at"][at],
            ended_us=instants["ended_at"][at],
            peak_us=instants["peak_at"][at],
            score=row["score"],
            threshold=row["threshold"],
            severity=row["severity"],
            state=row["state"],
            drivers=tuple(json.loads(row["drivers"])),
            baseline=json.loads(row["baseline"]),
        )
        for at, row in enumerate(rows.drop_columns(list(instants)).to_pylist())
    ]
