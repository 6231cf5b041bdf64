import pytest
import torch
from torch import nn

from mnist_lit.networks import StrongCNN, TutorialCNN


@pytest.mark.parametrize(("network", "count"), [(TutorialCNN, 28_938), (StrongCNN, 247_226)])
def test_the_networks_have_as_many_parameters_as_they_say(network, count):
    assert sum(parameter.numel() for parameter in network().parameters()) == count
    assert f"{count:,} parameters" in network.__doc__


def test_tutorial_cnn_is_the_tutorials_network():
    assert [repr(layer) for layer in TutorialCNN()] == [
        repr(layer)
        for layer in (
            nn.Conv2d(1, 16, kernel_size=5, stride=1, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=5, stride=1, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(1568, 10),
        )
    ]


@pytest.mark.parametrize("network", [TutorialCNN, StrongCNN])
def test_the_networks_give_ten_logits_an_image(network):
    assert network()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
