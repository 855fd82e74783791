import numpy as np

from events.calendar import DAY_MS
from model.datasets.simulator import Simulator
from model.datasets.simulator.belief import attainable_hazards


def test_belief_agrees_with_what_comes_and_knows_no_more_than_the_truth():
    """Over borrowers of several economies, at one moment each: as many defaults as believed, within chance, and the
    true hazard ranks them no worse."""
    believed, true, came = [], [], []
    for seed in range(100, 103):
        simulator = Simulator(users=100, months=9, seed=seed)
        outcomes = simulator.outcomes()
        at_ms = (simulator.first_day + 70 + seed % 7) * DAY_MS
        user_ids = simulator.user_ids()
        moments = np.full(len(user_ids), at_ms)
        true.append(simulator.true_hazards(user_ids, moments, 180))
        believed.append(attainable_hazards(simulator, user_ids, moments, 180, particles=60))
        default_dates_ms = [outcomes[user_id].default_date_ms for user_id in user_ids]
        came.append(np.array([o is not None and at_ms <= o < at_ms + 180 * DAY_MS for o in default_dates_ms]))
    believed, true, came = (np.concatenate(parts) for parts in (believed, true, came))
    known = ~np.isnan(true)
    np.testing.assert_array_equal(np.isnan(believed), ~known)
    believed, true, came = believed[known], true[known], came[known]

    def ranks(scores):
        return ((scores[came][:, None] > scores[~came]) + 0.5 * (scores[came][:, None] == scores[~came])).mean()

    assert came.sum() >= 6
    assert abs(came.sum() - believed.sum()) < 3.5 * np.sqrt((believed * (1 - believed)).sum())
    assert ranks(believed) > 0.75
    assert ranks(true) > ranks(believed) - 0.03


def test_equal_questions_get_equal_answers():
    simulator = Simulator(users=30, months=4, seed=3)
    user_ids = simulator.user_ids()[:12]
    moments = (simulator.first_day + 60 + np.arange(12) % 3) * DAY_MS

    first = attainable_hazards(simulator, user_ids, moments, particles=30)

    np.testing.assert_array_equal(first, attainable_hazards(simulator, user_ids, moments, particles=30))
