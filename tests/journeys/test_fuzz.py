"""Some of the fuzzer's inputs for each decoder; `python -m tests.journeys.fuzz` has as many as there is time for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.journeys import fuzz
from tests.journeys.fuzz_campaign import Campaign

ROOT = Path(__file__).parents[2]
ONE = "hook-mlflow"
# As `tests.journeys.fuzz`, but the process dies of one input, gives up at another, and a third never ends.
DYING = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.journeys import fuzz

make, read = fuzz.DECODERS["{ONE}"]
bad = {{fuzz.body_of(9, "{ONE}", 7): "dies", fuzz.body_of(9, "{ONE}", 11): "never ends"}}
bad[fuzz.body_of(9, "{ONE}", 14)] = "gives up"
fuzz.ENDLESS_S = 2.0

def dying(body):
    if bad.get(body) == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if bad.get(body) == "gives up":
        sys.exit(1)
    while bad.get(body) == "never ends":
        pass
    return read(body)

fuzz.DECODERS["{ONE}"] = (make, dying)
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize("decoder", fuzz.DECODERS)
def test_no_input_is_against_the_laws(decoder: str) -> None:
    tally = fuzz.run(decoder, seed=20_261_124, numbers=range(120))
    assert tally.failures == []
    # Inputs that are all refused whole would look at the doors alone.
    assert tally.inputs == 120
    assert tally.rows_accepted > 0


def test_an_input_follows_from_its_seed_and_number() -> None:
    bodies = [fuzz.body_of(3, decoder, 5) for decoder in fuzz.DECODERS]
    assert bodies == [fuzz.body_of(3, decoder, 5) for decoder in fuzz.DECODERS]
    assert bodies != [fuzz.body_of(4, decoder, 5) for decoder in fuzz.DECODERS]


def test_the_command_reports_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--decoder", "hook-mlflow", "--inputs", "5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["inputs"], report["failures"]) == (5, [])


def test_the_command_reports_after_every_so_many_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--decoder", "hook-mlflow", "--inputs", "5", "--every", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["inputs"] for line in lines] == [2, 2, 1]


def test_a_campaign_goes_on_behind_inputs_that_end_the_process(tmp_path: Path) -> None:
    program = tmp_path / "dying.py"
    program.write_text(DYING)
    campaign = Campaign(9, tmp_path / "kept.json", program=[sys.executable, str(program)])
    campaign.run_one(ONE, range(20))
    tally = campaign.tallies[ONE]
    assert tally.inputs == 20
    found = [(one["input"], one["what"].split(":")[0]) for one in tally.failures]
    assert found == [(7, "ended with -11"), (11, "ended with -27"), (14, "ended with 1")]


def test_a_campaign_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    Campaign(9, kept).run_one(ONE, range(5))
    again = Campaign(9, kept)
    again.run_one(ONE, range(5, 8))
    assert again.tallies[ONE] == Campaign(9, kept).tallies[ONE]
    assert again.tallies[ONE].inputs == 8
    with pytest.raises(SystemExit, match="is of seed 9"):
        Campaign(10, kept)
