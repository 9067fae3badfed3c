"""Sends what the simulation tells through the hub's public doors, in order, and remembers how far it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from cluster.errors import HubError
from cluster.sdk.client import NDJSON, HubClient, utc
from infra.cli.ingest_files import rejected
from infra.demo.events import events
from infra.demo.incidents import Incident, schedule
from infra.demo.spans import export_request
from infra.demo.traffic import Traffic

ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
# The past is sent in windows of this length: large enough to be quick, small enough to be shown growing.
HISTORY_STEP_US: Final = 1_200_000_000
PERIODS: Final = 400


class DemoFailed(HubError):
    """The hub did not take what the simulation sent."""

    code = "demo_failed"


@dataclass(slots=True)
class Counts:
    """What was sent and what the hub said of it; spans refused are counted in `refused`."""

    events: int = 0
    spans: int = 0
    repeated: int = 0
    refused: int = 0

    @property
    def sent(self) -> int:
        return self.events + self.spans


@dataclass(slots=True)
class Notebook:
    """What a later start must know, so that it goes on with the same story: kept in DIR/demo.

    Attributes:
        begin_us: when the story begins; incidents are counted from here.
        told_us: everything before it was sent.
    """

    seed: int
    begin_us: int
    period_us: int
    told_us: int

    @classmethod
    def open(cls, folder: Path, *, seed: int, period_us: int, now_us: int) -> Notebook:
        """The notebook of the folder, or a new one whose story begins a period before now."""
        try:
            notebook = cls(**json.loads((folder / "story.json").read_text()))
        except (OSError, ValueError, TypeError):
            return cls(seed, now_us - period_us, period_us, now_us - period_us)
        # After a long stop the story goes on a period before now: nobody waits for weeks to be told.
        notebook.told_us = max(notebook.told_us, now_us - notebook.period_us)
        return notebook

    def incidents(self) -> list[Incident]:
        """The incidents of the story, far beyond its present."""
        return schedule(self.begin_us, self.period_us, PERIODS)

    def save(self, folder: Path) -> None:
        """Keep how far the story was told, and the truth about it so far."""
        folder.mkdir(parents=True, exist_ok=True)
        truth = {
            "seed": self.seed,
            "begin": utc(self.begin_us),
            "told": utc(self.told_us),
            "incidents": [one.truth() for one in self.incidents() if one.from_us < self.told_us],
        }
        _replace(folder / "ground_truth.json", truth)
        _replace(folder / "story.json", asdict(self))


class Sender:
    """Tells one hub the story of one simulated platform."""

    def __init__(self, client: HubClient, traffic: Traffic, incidents: Sequence[Incident]) -> None:
        self._client = client
        self._traffic = traffic
        self._incidents = incidents
        self.counts = Counts()

    def send(self, from_us: int, to_us: int) -> None:
        """Everything told in [from_us, to_us); sent again after a failure it doubles nothing.

        Raises:
            HubError: the hub cannot be reached, or refuses as a whole.
        """
        for block in self._traffic.window(from_us, to_us):
            rows = events(block, self._incidents)
            if rows:
                receipt = self._client.post_body(ENCODER.encode_lines(rows), NDJSON)
                self.counts.events += receipt.accepted
                self.counts.repeated += receipt.repeated
                self.counts.refused += receipt.refused
                if receipt.errors:
                    # The simulation speaks the contract; a refused row is a defect on one of the two sides.
                    error = receipt.errors[0]
                    raise DemoFailed(f"{receipt.refused} events were refused, the first: {error.code}: {error.message}")
            body, spans = export_request(block, self._traffic.world)
            if spans:
                answer = self._client.post_otlp("traces", body)
                self.counts.spans += spans
                self.counts.refused += rejected("traces", answer, "application/x-protobuf")

    def catch_up(self, notebook: Notebook, until_us: int, *, told: Callable[[Notebook], None]) -> None:
        """Send the past up to `until_us` as fast as the hub takes it.

        Raises: as `send`.
        """
        while notebook.told_us < until_us:
            to_us = min(notebook.told_us + HISTORY_STEP_US, until_us)
            self.send(notebook.told_us, to_us)
            notebook.told_us = to_us
            told(notebook)


def _replace(path: Path, content: object) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)
