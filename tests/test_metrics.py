import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_score,
    recall_score,
)

from mnist_lit.metrics import Outputs, calibration_error, evaluate, wilson_interval
from mnist_lit.training.evaluation import worst_errors


@pytest.fixture(scope="module")
def outputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a model that is right about four times in five."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (2000,), generator=generator)
    logits = torch.randn(2000, 10, generator=generator)
    logits[range(2000), labels] += 2.5
    return torch.arange(2000) * 3, labels, logits


def test_every_figure_agrees_with_scikit_learn(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    indices, labels, logits = outputs
    probabilities = logits.double().softmax(dim=1)
    predictions = probabilities.argmax(dim=1)
    scores = evaluate(*outputs).scores
    assert scores["images"] == 2000
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert scores["errors"] == (predictions != labels).sum() == len(scores["wrong"])
    assert scores["wrong"] == indices[predictions != labels].tolist()
    assert scores["loss"] == pytest.approx(log_loss(labels, probabilities))
    brier = brier_score_loss(labels, probabilities, scale_by_half=False)
    assert scores["brier_score"] == pytest.approx(brier)
    assert scores["confusion"] == confusion_matrix(labels, predictions).tolist()
    recall = recall_score(labels, predictions, average=None)
    assert scores["accuracy_by_digit"] == pytest.approx(recall.tolist())
    precision = precision_score(labels, predictions, average=None)
    assert scores["precision_by_digit"] == pytest.approx(precision.tolist())


def test_the_calibration_error_agrees_with_a_count_by_hand(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    _, labels, logits = outputs
    probabilities = logits.double().softmax(dim=1)
    confidence = probabilities.amax(dim=1).numpy()
    right = (probabilities.argmax(dim=1) == labels).numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    error = sum(
        (bins == place).mean() * abs(confidence[bins == place].mean() - right[bins == place].mean())
        for place in set(bins)
    )
    assert evaluate(*outputs).scores["calibration_error"] == pytest.approx(error, rel=1e-12)


def test_shares_are_exact_quotients() -> None:
    labels = torch.arange(10_000) % 10
    predictions = torch.where(torch.arange(10_000) < 86, (labels + 1) % 10, labels)
    scores = evaluate(torch.arange(10_000), labels, 5 * torch.eye(10)[predictions]).scores
    assert scores["accuracy"] == 0.9914
    assert scores["accuracy_by_digit"] == [0.991] * 6 + [0.992] * 4
    expected = binomtest(9914, 10_000).proportion_ci(method="wilson")
    interval = pytest.approx((expected.low, expected.high), rel=1e-12)
    assert scores["accuracy_interval"] == interval


def test_a_sure_model_is_calibrated_when_it_is_right_and_not_when_it_is_wrong() -> None:
    sure = torch.eye(10)
    assert calibration_error(sure, torch.arange(10)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, torch.zeros(10, dtype=torch.long)) == pytest.approx(0.9)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (9904, 10_000), (3, 7)])
def test_the_interval_agrees_with_scipys_wilson_interval(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    low, high = wilson_interval(torch.tensor(right / n, dtype=torch.double), n)
    assert (low.item(), high.item()) == pytest.approx((expected.low, expected.high))


def test_a_digit_that_does_not_occur_has_no_share() -> None:
    scores = evaluate(torch.arange(2), torch.tensor([3, 3]), torch.eye(10)[[3, 5]]).scores
    assert scores["accuracy_by_digit"] == [None] * 3 + [0.5] + [None] * 6
    assert scores["precision_by_digit"] == [None] * 3 + [1, None, 0] + [None] * 4
    assert scores["wrong"] == [1]


def test_answers_that_are_not_numbers_give_figures_that_are_none() -> None:
    scores = evaluate(torch.arange(5), torch.arange(5), torch.full((5, 10), torch.nan)).scores
    for name in ("loss", "calibration_error", "brier_score"):
        assert np.isnan(scores[name])


def test_worst_errors_of_a_faultless_model_are_none() -> None:
    labels = torch.arange(10)
    assert worst_errors(labels, 9 * torch.eye(10)).tolist() == []
    swapped = torch.eye(10)[[0, 1, 3, 2, 4, 5, 6, 7, 9, 8]]
    swapped[8] *= 2
    assert worst_errors(labels, swapped).tolist()[:1] == [8]
    assert set(worst_errors(labels, swapped).tolist()) == {2, 3, 8, 9}


def test_outputs_of_processes_that_take_images_in_turn_are_put_in_order() -> None:
    outputs = Outputs()
    logits = torch.randn(5, 10)
    for rank in (1, 0):
        labels = torch.arange(rank, 5, 2)
        for label in labels:
            outputs.update(label.view(1), logits[label].view(1, 10), rank, world_size=2)
        outputs.seen = 0
    indices, labels, ordered = outputs.compute()
    assert indices.tolist() == labels.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(ordered, logits)
