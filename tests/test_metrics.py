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


SAMPLES = softmax(np.random.default_rng(2).normal(0, 2, (20, 30, 4)), axis=-1)


def test_predictive_entropy_is_that_of_scipy_and_a_zero_adds_nothing():
    np.testing.assert_allclose(metrics.predictive_entropy(SAMPLES), stats.entropy(SAMPLES, axis=-1))
    np.testing.assert_array_equal(metrics.predictive_entropy([[1.0, 0.0], [0.0, 1.0]]), [0, 0])
    assert metrics.predictive_entropy([0.25] * 4) == pytest.approx(np.log(4))


def test_mutual_information_is_what_samples_disagree_about():
    # The mean divergence of the samples from their mean, which is the same by definition.
    divergence = stats.entropy(SAMPLES, SAMPLES.mean(axis=0, keepdims=True), axis=-1).mean(axis=0)
    np.testing.assert_allclose(metrics.mutual_information(SAMPLES), divergence)
    assert metrics.mutual_information([[[1.0, 0.0]], [[0.0, 1.0]]]) == pytest.approx(np.log(2))


def test_samples_that_agree_have_no_mutual_information():
    alike = np.repeat(SAMPLES[:1], 7, axis=0)
    actual = metrics.mutual_information(alike)
    assert (actual >= 0).all()
    np.testing.assert_allclose(actual, 0, atol=1e-12)
