"""Scores windows with champions: requests that come together are scored together, each answered with the version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster import interpreter
from cluster.clock import Clock, SystemClock, format_rfc3339
from cluster.errors import HubError, Unavailable
from cluster.metadata.feedback import FeedbackStore, Verdict
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.anomaly import together, trace_model
from models.anomaly.detector import DETECTORS
from models.anomaly.fleet import Fleet
from models.anomaly.neighbourhood import KIND as NEIGHBOURHOOD
from models.anomaly.refusals import DetectorUnknown
from models.anomaly.trace_detector import TRACE_DETECTORS
from models.anomaly.window_answers import answers
from serving.champions import LOOK_EVERY_S, Champion, Champions, fleet_of
from serving.remote import Refusal, Remote, caught
from serving.score_request import ScoreRequest
from serving.straight_line import LineEnd, Method

# Windows of one pass; more only make the first of them wait.
BATCH_MAX: Final = 64
_BATCH_WAIT_S: Final = 0.002
_FEEDBACK_EVERY_S: Final = 1.0
# Requests of all doors that the replica has taken up; the queue is before it.
_ONGOING_MAX: Final = 1_024

Answer = dict[str, Any]
Asked = tuple[TenantScope, ScoreRequest]


def _of_spans(champion: Champion, traces: Sequence[dict[str, Any]]) -> list[Answer]:
    return trace_model.answers(champion.content, trace_model.spans_of(traces))


# Kinds that score traces: kind -> (champion, traces) -> entries of the answer.
TRACE_SCORERS: Final[Mapping[str, Callable[[Champion, Sequence[dict[str, Any]]], list[Answer]]]] = MappingProxyType(
    dict.fromkeys(TRACE_DETECTORS, _of_spans)
)
# Kinds whose stored content is no Fleet: kind -> (arrays, configuration) -> content.
LOADERS: Final[dict[str, Callable[..., Any]]] = {**trace_model.LOADERS, NEIGHBOURHOOD: together.load}
# Kinds that score windows.
WINDOW_KINDS: Final = (*DETECTORS, NEIGHBOURHOOD)


class ScorerPort(Protocol):
    """Kept as `app.state.scorer`. Every method raises HubError."""

    async def score(self, scope: TenantScope, request: ScoreRequest) -> Answer:
        """Scores, thresholds and drivers of windows or traces, with the version that gave them."""

    async def detectors(self, scope: TenantScope) -> Answer:
        """Kinds, versions, champions and figures."""


class Scorer:
    """One replica's scorer: a `ScorerPort` that also takes many requests at once."""

    def __init__(self, settings: Settings, *, store: Any = None, look_every_s: float = LOOK_EVERY_S) -> None:
        """
        Args:
            store: a ModelStore; None opens the hub's with the first question.
        """
        self._settings = settings
        self._clock = SystemClock()
        self._champions = Champions(settings, self._clock, loaders=LOADERS, store=store, look_every_s=look_every_s)
        self._feedback = FeedbackStore(open_metadata(settings, self._clock), self._clock)
        self._verdicts: dict[tuple[str, str, str], list[Verdict]] = {}
        self._looked_at_s = float("-inf")
        # One pass at a time: the network uses every core it may.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")

    async def score(self, scope: TenantScope, request: ScoreRequest) -> Answer:
        """See `ScorerPort.score`."""
        (answer,) = await self.score_many([(scope, request)])
        if isinstance(answer, HubError):
            raise answer
        return answer

    def close(self) -> None:
        """End the threads."""
        self._thread.shutdown(wait=False)
        self._champions.close()

    async def score_many(self, asked: Sequence[Asked]) -> list[Answer | HubError]:
        """Answer each request or refuse it by itself; those of one model and shape go through it together."""
        found: list[Champion | HubError] = [await self._champion(*one) for one in asked]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for at, champion in enumerate(found):
            if isinstance(champion, Champion):
                shape = asked[at][1].windows.shape[1:]
                groups.setdefault((champion.owner, champion.kind, champion.version, shape), []).append(at)
        outcome: list[Answer | HubError] = [one if isinstance(one, HubError) else {} for one in found]
        loop = asyncio.get_running_loop()
        for places in groups.values():
            first = found[places[0]]
            assert isinstance(first, Champion)
            together = [asked[at] for at in places]
            scored = await loop.run_in_executor(self._thread, self._pass, first, together)
            for at, one in zip(places, scored, strict=True):
                outcome[at] = one
        return outcome

    async def detectors(self, scope: TenantScope) -> Answer:
        """See `ScorerPort.detectors`."""
        versions = await self._champions.versions(scope)
        url = f"http://127.0.0.1:{self._settings.mlflow_port}/#/experiments/1/runs"
        kinds = dict.fromkeys([*WINDOW_KINDS, *TRACE_SCORERS, *(one.kind for one in versions)])
        return {"detectors": [self._told(kind, versions, url) for kind in kinds]}

    def _told(self, kind: str, versions: Sequence[Any], url: str) -> Answer:
        mine = [
            {
                "version": one.version,
                "owner": one.owner,
                "aliases": list(one.aliases),
                "run_id": one.run_id,
                "run_url": f"{url}/{one.run_id}",
                "tags": dict(one.tags),
                "figures": dict(one.metrics),
            }
            for one in versions
            if one.kind == kind
        ]
        champion = next((one for one in mine if "champion" in one["aliases"]), None)
        state = "serving" if champion else "trained" if mine else "not_trained"
        return {"detector": kind, "state": state, "champion": champion, "versions": mine}

    async def _champion(self, scope: TenantScope, request: ScoreRequest) -> Champion | HubError:
        known = tuple(TRACE_SCORERS) if request.traces else WINDOW_KINDS
        if request.detector not in known:
            return DetectorUnknown(
                f"no detector {request.detector[:80]!r} reads {'traces' if request.traces else 'windows'}",
                hint=f"There are: {', '.join(known) or 'none yet'}.",
            )
        try:
            self._read_feedback()
            return await self._champions.get(scope, request.detector)
        except HubError as error:
            return error

    def _read_feedback(self) -> None:
        if self._clock.monotonic_s() - self._looked_at_s > _FEEDBACK_EVERY_S:
            self._looked_at_s = self._clock.monotonic_s()
            self._verdicts = self._feedback.by_threshold()

    def _pass(self, champion: Champion, asked: Sequence[Asked]) -> list[Answer | HubError]:
        """Score requests of one model and one shape of windows."""
        if champion.kind in TRACE_SCORERS:
            return [self._of_traces(champion, request) for _, request in asked]
        if champion.kind == NEIGHBOURHOOD:
            return [self._side_by_side(champion, scope, request) for scope, request in asked]
        fleet = fleet_of(champion)
        good: list[Asked] = []
        outcome: list[Answer | HubError | None] = []
        for scope, request in asked:
            refused = _refusal(fleet, request)
            outcome.append(refused)
            good += [] if refused else [(scope, request)]
        if good:
            scored = iter(self._together(champion, fleet, good))
            outcome = [one or next(scored) for one in outcome]
        return [one for one in outcome if one is not None]

    def _together(self, champion: Champion, fleet: Fleet, asked: Sequence[Asked]) -> list[Answer]:
        windows = np.concatenate([request.windows for _, request in asked])
        entities = [name for _, request in asked for name in request.entities]
        starts = [at for _, request in asked for at in request.starts_us]
        scores = fleet.score_last(windows, entities, starts)
        thresholds = [fleet.threshold(name) for name in entities]
        verdicts = [self._said(scope, fleet.kind, name) for scope, request in asked for name in request.entities]
        told = answers(
            fleet, windows, scores, entities=entities, starts_us=starts, thresholds=thresholds, verdicts=verdicts
        )
        out, at = [], 0
        for _, request in asked:
            count = request.windows.shape[0]
            out.append({**_head(champion), "scores": told[at : at + count]})
            at += count
        return out

    def _said(self, scope: TenantScope, kind: str, entity: str) -> Sequence[Verdict]:
        return self._verdicts.get((str(scope.tenants[0]), kind, entity), ())

    def _side_by_side(self, champion: Champion, scope: TenantScope, request: ScoreRequest) -> Answer | HubError:
        """Windows of entities beside each other belong to one question."""
        model = champion.content
        try:
            told = together.answers(
                model,
                request.windows,
                entities=request.entities,
                starts_us=request.starts_us,
                verdicts=[self._said(scope, model.kind, name) for name in request.entities],
                features=request.features,
            )
        except HubError as error:
            return error
        return {**_head(champion), "scores": told}

    def _of_traces(self, champion: Champion, request: ScoreRequest) -> Answer | HubError:
        try:
            return {**_head(champion), "scores": TRACE_SCORERS[champion.kind](champion, request.traces)}
        except HubError as error:
            return error


def _head(champion: Champion) -> Answer:
    return {
        "detector": champion.kind,
        "owner": champion.owner,
        "version": champion.version,
        "run_id": champion.run_id,
        "scored_at": format_rfc3339(SystemClock().now_us()),
    }


def _refusal(fleet: Fleet, request: ScoreRequest) -> HubError | None:
    """Why these windows cannot be scored by this model."""
    try:
        # Columns without names are in the order of the detector, and must then be as many.
        fleet.check(request.features or fleet.units.features, fleet.units.step_s)
        if request.windows.shape[2] != len(fleet.units.features):
            fleet.check((), fleet.units.step_s)
        for name in set(request.entities):
            fleet.units.place(name)
    except HubError as error:
        return error
    return None


class ScoreReplica:
    """A scorer in a Serve replica of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        interpreter.share()
        settings = Settings.from_environment(environment)
        self._scorer = Scorer(settings)
        methods: dict[str, Method] = {"score": self.score, "detectors": self.detectors}
        self._line = LineEnd(methods, asked_max=_ONGOING_MAX + settings.scorer_queue)
        interpreter.settle()

    async def line(self) -> str:
        """Name of the straight line to this scorer, see `serving.straight_line`."""
        return await self._line.name()

    @serve.batch(max_batch_size=BATCH_MAX, batch_wait_timeout_s=_BATCH_WAIT_S)
    async def _batched(self, asked: list[Asked]) -> list[Answer | Refusal]:
        outcomes = await self._scorer.score_many(asked)
        return [Refusal(one) if isinstance(one, HubError) else one for one in outcomes]

    async def score(self, scope: TenantScope, request: ScoreRequest) -> Answer | Refusal:
        answer: Answer | Refusal = await self._batched((scope, request))
        return answer

    async def detectors(self, scope: TenantScope) -> Answer | Refusal:
        return await caught(self._scorer.detectors(scope))


class RemoteScorer:
    """ScorerPort over the straight line to the scorer, and over its Serve handle where there is none."""

    def __init__(self, handle: DeploymentHandle, clock: Clock, *, straight: bool = True) -> None:
        """
        Args:
            straight: there is one scorer.
        """
        self._scorer = Remote(handle, clock, straight=straight, noun="scorer")

    async def score(self, scope: TenantScope, request: ScoreRequest) -> Answer:
        answer: Answer = await self._scorer.ask("score", scope, request)
        return answer

    async def detectors(self, scope: TenantScope) -> Answer:
        answer: Answer = await self._scorer.ask("detectors", scope)
        return answer


def port(scorer: ScorerPort | None) -> ScorerPort:
    """The scorer of this hub.

    Raises:
        Unavailable: the hub runs without one.
    """
    if scorer is None:
        raise Unavailable("this hub scores nothing", retry_after_s=5.0)
    return scorer


ScorerDeployment = serve.deployment(name="scorer", max_ongoing_requests=_ONGOING_MAX)(ScoreReplica)
