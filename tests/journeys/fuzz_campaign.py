"""`python -m tests.journeys.fuzz_campaign --inputs N [--keep FILE]`: N spoilt bodies for every decoder, as JSON.

Decoders run in processes of their own, a part of the inputs each: one that ends by a signal is a failure of the input
it was at, and the campaign goes on behind it. The decoder that is furthest behind is next. With `--keep` the figures
are in the file every few seconds, and the same command goes on from there: a campaign may take days, ended at any time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cluster.lake.files import replace
from tests.journeys.fuzz import DECODERS, FAILURES_MAX, Tally, body_of, failure

# What a process takes to start and to be warm is as much as thousands of inputs.
_PART: Final = 100_000
_EVERY: Final = 5_000
_PROGRAM: Final = (sys.executable, "-m", "tests.journeys.fuzz")


class Campaign:
    """Inputs that follow from one seed, and what became of them so far."""

    def __init__(self, seed: int, kept: Path | None, *, program: Sequence[str] = _PROGRAM) -> None:
        """
        Args:
            kept: where the figures are kept; those of before are taken over.
            program: what reads a part of the inputs, `tests.journeys.fuzz` or what takes the same options.
        """
        self._kept = kept
        self._program = program
        found: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}
        if found and found["seed"] != seed:
            raise SystemExit(f"{kept} is of seed {found['seed']}, not of {seed}")
        self._seed = seed
        self.tallies = {name: Tally(**found.get("decoders", {}).get(name, {})) for name in DECODERS}

    def report(self) -> dict[str, Any]:
        """The seed and the figures of each decoder."""
        return {"seed": self._seed, "decoders": {name: asdict(tally) for name, tally in self.tallies.items()}}

    def run(self, inputs: int, *, part: int = _PART) -> None:
        """Until every decoder had so many inputs, or so many failures that more would say nothing new."""
        while behind := {
            name: tally.inputs
            for name, tally in self.tallies.items()
            if tally.inputs < inputs and len(tally.failures) < FAILURES_MAX
        }:
            name = min(behind, key=lambda name: behind[name])
            first = behind[name]
            self.run_one(name, range(first, min(first + part, inputs)))

    def run_one(self, name: str, numbers: range) -> None:
        """The next inputs of one decoder."""
        if not numbers:
            return
        tally, before = self.tallies[name], self.tallies[name].inputs
        died = self._process(name, numbers)
        if died is None:
            return
        number, what = died
        # What was found since the last line of figures is not known, so it is done again up to there.
        self.run_one(name, range(numbers.start + tally.inputs - before, number))
        tally.failures.append(failure(name, (self._seed, number), what, body_of(self._seed, name, number)))
        tally.inputs += 1
        self._keep()
        self.run_one(name, range(number + 1, numbers.stop))

    def _process(self, name: str, numbers: range) -> tuple[int, str] | None:
        """Feed a decoder in a process; the input that ended it before its time and how, if one did."""
        with tempfile.NamedTemporaryFile() as place, tempfile.TemporaryFile("w+") as told:
            place.write(numbers.start.to_bytes(8, "little"))
            place.flush()
            given = ["--seed", self._seed, "--decoder", name, "--first", numbers.start, "--inputs", len(numbers)]
            command = [*self._program, *map(str, given), "--every", str(_EVERY), "--at", place.name]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as process:
                for line in process.stdout or ():
                    self.tallies[name].add(json.loads(line))
                    self._keep()
            if process.returncode in (0, 1) and self._is_through(name, numbers):
                return None
            told.seek(0)
            number = int.from_bytes(Path(place.name).read_bytes(), "little")
            return number, f"ended with {process.returncode}: {told.read()[-300:]}"

    def _is_through(self, name: str, numbers: range) -> bool:
        tally = self.tallies[name]
        return tally.inputs >= numbers.stop or len(tally.failures) >= FAILURES_MAX

    def _keep(self) -> None:
        if self._kept:
            replace(self._kept, json.dumps(self.report(), indent=1).encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where no input was against the laws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=1_000, help="for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="figures so far; the campaign goes on from them")
    given = parser.parse_args(arguments)
    campaign = Campaign(given.seed, given.keep)
    campaign.run(given.inputs)
    print(json.dumps(campaign.report(), indent=1))
    return int(any(tally.failures for tally in campaign.tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
