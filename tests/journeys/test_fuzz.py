"""Some of the fuzzer's inputs for each decoder; `python -m tests.journeys.fuzz` has as many as there is time for."""

from __future__ import annotations

import json

import pytest

from tests.journeys import fuzz


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
