"""From scores of the last hours to incidents: what is new, what goes on, what has ended. Rows, not yet stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from models.anomaly.fleet import Fleet
from models.anomaly.lessons import Driver, Lesson, Lessons, direction_of, near
from models.anomaly.recent import KIND, PAST_ROWS, Recent
from models.anomaly.scores import Scores
from models.anomaly.series import Floats, Series
from models.anomaly.threshold import MERGE_S, Alarm, Threshold, decide
from models.anomaly.together import Together
from models.anomaly.window_answers import drivers, severity

OPEN, CLOSED = "open", "closed"
# What gave the scores.
Judging = Fleet | Recent | Together
_TOLD_AGAIN_US: Final = 600_000_000
# Feature -> measure of the query catalogue, and how a value becomes one of that measure.
_MEASURES: Final[Mapping[str, tuple[str, str]]] = {
    "requests_log": ("request_count", "log"),
    "error_share": ("error_ratio", "share"),
    "guardrail_block_share": ("guardrail_block_ratio", "share"),
    "cache_hit_share": ("cache_hit_ratio", "share"),
    "cache_read_share": ("cache_read_tokens", "ratio"),
    "reasoning_share": ("reasoning_tokens", "ratio"),
    "input_tokens_log": ("input_tokens", "log"),
    "output_tokens_log": ("output_tokens", "log"),
    "cost_log": ("cost_usd", "micro"),
    "cost_per_token_log": ("cost_usd", "nano"),
    "latency_ms_p50_log": ("latency_ms_p50", "log"),
    "latency_ms_p95_log": ("latency_ms_p95", "log"),
    "ttft_ms_p50_log": ("ttft_ms_p50", "log"),
    "ttft_ms_p95_log": ("ttft_ms_p95", "log"),
}


@dataclass(frozen=True, slots=True)
class Incident:
    """One anomaly as it stands.

    Attributes:
        model_version: 0 for plain statistics.
        threshold: of the row whose score is furthest over its own, as verdicts on alarms like it made it.
        drivers: of that row, see `window_answers.drivers`, in units of measures.
    """

    anomaly_id: str
    revision: int
    detector: str
    model_version: int
    entity: str
    started_us: int
    ended_us: int
    peak_us: int
    score: float
    threshold: float
    severity: str
    state: str
    drivers: tuple[dict[str, Any], ...]
    baseline: dict[str, Any]

    @property
    def measures(self) -> tuple[str, ...]:
        """Of the drivers, each once."""
        return tuple(dict.fromkeys(str(one["measure"]) for one in self.drivers))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose rows were scored, by what."""

    tenant: str
    entity: str
    model_version: int


def follow(
    subject: Subject,
    judge: Judging,
    series: Series,
    *,
    scores: Scores,
    threshold: Threshold,
    known: Iterable[Incident],
    verdicts: Sequence[Lesson] = (),
) -> list[Incident]:
    """Incidents that are new or have changed.

    An alarm that touches a known incident of the entity, or begins within MERGE_S of its end, is the same incident.

    Args:
        series: rows up to the newest, as the judge reads them; scores of each.
        known: incidents of this entity that may go on, or lie within the series.
        verdicts: on alarms of this judge and entity.
    """
    step_us = series.step_s * 1_000_000
    now_us = series.start_us + series.rows * step_us
    before = {one.anomaly_id: one for one in known}
    current = dict(before)
    met: set[str] = set()
    raised = factors(subject, judge, series, scores=scores, threshold=threshold, verdicts=verdicts)
    for alarm in decide(scores.score, threshold, raised):
        learned = replace(threshold, factor=threshold.factor * float(raised[alarm.peak]))
        told = _told(subject, judge, series, scores=scores, alarm=alarm, threshold=learned)
        told = replace(told, state=OPEN if now_us - told.ended_us < MERGE_S * 1_000_000 else CLOSED)
        same = _same(told, current.values())
        current[same.anomaly_id if same else told.anomaly_id] = _grown(same, told) if same else told
        met.add(same.anomaly_id if same else told.anomaly_id)
    for one in list(current.values()):
        if one.state == OPEN and one.anomaly_id not in met and now_us - one.ended_us >= MERGE_S * 1_000_000:
            current[one.anomaly_id] = replace(one, state=CLOSED)
    return [
        replace(one, revision=before[name].revision + 1) if name in before else one
        for name, one in current.items()
        if before.get(name) != one
    ]


def _same(told: Incident, known: Iterable[Incident]) -> Incident | None:
    reach_us = MERGE_S * 1_000_000
    touching = (one for one in known if told.started_us <= one.ended_us + reach_us and told.ended_us > one.started_us)
    return min(touching, key=lambda one: one.started_us, default=None)


def _grown(same: Incident, told: Incident) -> Incident:
    """What is known and what is told now as one; what is known when nothing changed that is worth a row."""
    worse = told.score > same.score * 1.001
    ended_us = max(same.ended_us, told.ended_us)
    # While it lasts, its end moves with every row; a row is written when something else changes, or each ten minutes.
    moved = ended_us - same.ended_us >= _TOLD_AGAIN_US or (told.state == CLOSED and ended_us > same.ended_us)
    if not worse and not moved and told.state == same.state:
        return same
    base = told if worse else same
    return replace(
        base,
        anomaly_id=same.anomaly_id,
        revision=same.revision,
        started_us=min(same.started_us, told.started_us),
        ended_us=ended_us,
        state=told.state,
    )


def factors(
    subject: Subject,
    judge: Judging,
    series: Series,
    *,
    scores: Scores,
    threshold: Threshold,
    verdicts: Sequence[Lesson],
) -> Floats:
    """(n,) of the level at each row, by what drives it and what was said of alarms like it."""
    found = np.ones(series.rows)
    rows = near(scores.score, threshold) if verdicts else []
    if rows:
        lessons = Lessons.of(verdicts, len(series.features))
        for row in rows:
            drivers = drivers_at(subject, judge, series, scores=scores, row=row)
            found[row] = lessons.threshold(threshold, drivers).level / threshold.level
    return found


def drivers_at(subject: Subject, judge: Judging, series: Series, *, scores: Scores, row: int) -> Sequence[Driver]:
    """See `window_answers.drivers`, in units of features."""
    if isinstance(judge, Recent):
        return judge.drivers(row)
    at_us = series.start_us + row * series.step_s * 1_000_000
    values, share = series.values[row], scores.share[row]
    if isinstance(judge, Together):
        return judge.drivers(values, share, entity=subject.entity, at_us=at_us)
    return drivers(judge, values, share, entity=subject.entity, at_us=at_us)


def _baseline(judge: Judging, threshold: Threshold) -> dict[str, Any]:
    if isinstance(judge, Recent):
        return {"of": f"the {PAST_ROWS} minutes before", "season": "none"}
    if isinstance(judge, Together):
        told = {"of": "training time of this entity, beside the others", "season": judge.season}
    else:
        bins = judge.units.profile.shape[1]
        season = "none" if bins == 1 else "time of day" if bins == 48 else "time of week"
        told = {"of": "training time of this entity", "season": season}
    return told | {"budget_per_day": threshold.budget_per_day}


def _told(
    subject: Subject, judge: Judging, series: Series, *, scores: Scores, alarm: Alarm, threshold: Threshold
) -> Incident:
    step_us = series.step_s * 1_000_000
    began_us = series.start_us + alarm.start * step_us
    kind = KIND if isinstance(judge, Recent) else judge.kind
    found_drivers = drivers_at(subject, judge, series, scores=scores, row=alarm.peak)
    learned = {"features": len(series.features), "threshold_factor": threshold.factor}
    return Incident(
        anomaly_id=_identity(subject, kind, began_us),
        revision=0,
        detector=kind,
        model_version=subject.model_version,
        entity=subject.entity,
        started_us=began_us,
        ended_us=series.start_us + alarm.end * step_us,
        peak_us=series.start_us + alarm.peak * step_us,
        score=alarm.score,
        threshold=threshold.level,
        severity=severity(alarm.score, threshold.level),
        state=OPEN,
        drivers=tuple(natural(one) for one in found_drivers),
        baseline=_baseline(judge, threshold) | learned | {"model_version": subject.model_version},
    )


def _identity(subject: Subject, kind: str, began_us: int) -> str:
    """The same for the same incident, however often it is found."""
    told = f"{subject.tenant}\n{kind}\n{subject.entity}\n{began_us}"
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


def natural(driver: Driver) -> dict[str, Any]:
    """A driver with its measure, and value and usual value in units of it.

    Shares were shrunk towards zero in quiet minutes, so a ratio is at least as high as told.
    """
    feature = str(driver["feature"]).rpartition("|")[2]
    measure, form = _MEASURES.get(feature, (feature, "plain"))
    told = {"feature": driver["feature"], "measure": measure, "share": driver["share"]}
    for name in ("value", "usual"):
        told[name] = None if driver[name] is None else _plain(float(driver[name]), form)
    told["direction"] = direction_of(driver)
    return told


def _plain(value: float, form: str) -> float:
    forms = {
        "log": lambda: np.expm1(min(value, 60.0)),
        "share": lambda: value * abs(value),
        "micro": lambda: np.expm1(min(value, 60.0)) / 1e6,
        "nano": lambda: np.expm1(min(value, 60.0)) / 1e9,
    }
    plain = float(forms[form]()) if form in forms else value
    return max(plain, 0.0) if form in forms else plain


def newest(rows: Sequence[Incident]) -> dict[str, Incident]:
    """Of each id the highest revision."""
    found: dict[str, Incident] = {}
    for one in rows:
        if one.anomaly_id not in found or found[one.anomaly_id].revision < one.revision:
            found[one.anomaly_id] = one
    return found
