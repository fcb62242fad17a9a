"""Measures against scikit-learn, SciPy and hand-made cases."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import log_loss, zero_one_loss

from zoo import metrics

LOGITS = np.random.default_rng(0).normal(0, 3, (500, 4))
LABELS = np.random.default_rng(1).integers(0, 4, 500)


def test_error_loss_and_entropy_are_those_of_scikit_learn_and_scipy():
    assert metrics.error(LOGITS, LABELS) == pytest.approx(100 * zero_one_loss(LABELS, LOGITS.argmax(1)))
    assert metrics.loss(LOGITS, LABELS) == pytest.approx(log_loss(LABELS, softmax(LOGITS, axis=1)))
    np.testing.assert_allclose(metrics.entropy(LOGITS), stats.entropy(softmax(LOGITS, axis=1), axis=1))


def test_huge_logits_do_not_overflow():
    assert metrics.loss(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 1])) == 0


def test_calibration_error_of_a_hand_made_case():
    # Ten predictions of confidence 0.8, of which six are right: a gap of 0.2 in one bin.
    logits = np.log(np.tile([0.8, 0.2], (10, 1)))
    assert metrics.calibration_error(logits, np.array([0] * 6 + [1] * 4)) == pytest.approx(20)


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not():
    certain = np.array([[1e3, 0.0]] * 5)
    assert metrics.calibration_error(certain, np.zeros(5, int)) == 0
    assert metrics.calibration_error(certain, np.ones(5, int)) == pytest.approx(100)
