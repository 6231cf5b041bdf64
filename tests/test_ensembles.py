import pytest
import torch

from mnist_lit.ensembles import Ensemble, mean_logits
from mnist_lit.networks import StrongCNN, TutorialCNN


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities():
    members = [TutorialCNN().eval(), StrongCNN().eval()]
    images = torch.rand(5, 1, 28, 28)
    expected = (members[0](images).softmax(1) + members[1](images).softmax(1)) / 2
    torch.testing.assert_close(Ensemble(members)(images).softmax(1), expected)


def test_the_logits_of_an_ensemble_are_finite_where_its_probabilities_underflow():
    logits = torch.tensor([[[0.0, -500.0]], [[0.0, -400.0]]])
    assert mean_logits(logits)[0, 1].item() == pytest.approx(-400 - torch.tensor(2.0).log().item())
