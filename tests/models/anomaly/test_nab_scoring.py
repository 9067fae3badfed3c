"""The NAB score of detectors whose score is known: never 0, perfect 100, late and noisy ones between."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import anomaly_nab as nab


def recordings() -> list[nab.Recording]:
    values = np.random.default_rng(1).standard_normal(2_000)
    windows = [[(500, 599), (1_200, 1_299)], [(700, 799)]]
    return [nab.Recording(f"r{number}", values, 300, 0, spans) for number, spans in enumerate(windows)]


def test_never_firing_scores_0_and_firing_at_each_start_100() -> None:
    told = recordings()
    assert set(nab.scoreboard(told, [nab.never(one) for one in told]).values()) == {0.0}
    assert set(nab.scoreboard(told, [nab.perfect(one) for one in told]).values()) == {100.0}


def test_the_later_in_the_window_the_less_it_is_worth() -> None:
    told = recordings()

    def late(rows: int) -> float:
        scores = []
        for one in told:
            score = np.zeros(one.values.size)
            score[[first + rows for first, _ in one.windows]] = 1.0
            scores.append(score)
        return nab.scoreboard(told, scores)["standard"]

    # Half way through the window: the scaled sigmoid of -0.5 over that of -1, and what missing would have cost.
    assert late(0) == pytest.approx(100.0)
    assert late(51) == pytest.approx(100 * (1 + 0.841 / 0.987) / 2, abs=0.5)
    assert late(0) > late(40) > late(80) > late(98)


def test_false_alarms_cost_more_in_the_profile_that_says_so() -> None:
    told = recordings()
    scores = [nab.perfect(one) for one in told]
    for score in scores:
        # As high as the hits: no threshold parts them.
        score[1_600:1_610] = 1.0
    board = nab.scoreboard(told, scores)
    assert board["low_false_alarms"] < board["standard"] < 100.0


def test_alarms_in_probation_neither_count_nor_cost() -> None:
    told = recordings()
    scores = [nab.perfect(one) for one in told]
    for score in scores:
        score[:200] = 1.0
    assert nab.scoreboard(told, scores)["standard"] == pytest.approx(100.0)
