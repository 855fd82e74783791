import numpy as np

from model.datasets.simulator import economy


def test_shocks_come_once_a_year_and_wear_off_by_half_in_ten_weeks():
    path = economy.strain_path(np.random.default_rng(1), 52 * 400)
    risen = np.diff(path) > 0

    assert 0.85 < risen.sum() / 400 < 1.15
    assert path.min() == 0.0
    still = economy.next_strain(np.array([1.0]), np.array([1.0]), np.zeros(1))
    for _ in range(9):
        still = economy.next_strain(still, np.array([1.0]), np.zeros(1))
    np.testing.assert_allclose(still, 0.5)


def test_a_path_s_beginning_does_not_depend_on_its_shocks_later():
    before = economy.next_strain(np.array([0.2, 0.0]), np.array([0.0, 0.9]), np.array([0.0, 3.0]))

    assert before[0] > 0.9 * np.exp(-0.1)
    assert before[1] == 0.0
