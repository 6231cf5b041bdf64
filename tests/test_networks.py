from typing import Any

import pytest
import torch
from torch import nn

from mnist_lit.networks import SpeedrunCNN, StrongCNN, TutorialCNN, edge_filters

COUNTS = {TutorialCNN: 28_938, StrongCNN: 247_226, SpeedrunCNN: 72_154}


@pytest.mark.parametrize(("network", "count"), COUNTS.items())
def test_the_networks_have_as_many_parameters_as_they_say(network: Any, count: Any) -> None:
    assert sum(parameter.numel() for parameter in network().parameters()) == count
    assert f"{count:,} parameters" in network.__doc__


def test_tutorial_cnn_is_the_tutorials_network() -> None:
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


@pytest.mark.parametrize("network", COUNTS)
def test_the_networks_give_ten_logits_an_image(network: Any) -> None:
    assert network()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_an_edge_filter_answers_most_to_an_edge_in_its_direction() -> None:
    filters = edge_filters(16, 5)
    assert filters.shape == (16, 1, 5, 5)
    assert torch.allclose(filters.flatten(1).norm(dim=1), torch.ones(16))
    assert torch.allclose(filters[8:], -filters[:8], atol=1e-6)
    to_the_right = torch.arange(5.0).expand(5, 5)
    for image, direction in ((to_the_right, 0), (to_the_right.T, 4)):
        answers = (filters * image).flatten(1).sum(dim=1)
        assert answers.argmax() == direction
        assert answers[(direction + 4) % 16] == pytest.approx(0, abs=1e-5)  # along the edge


def test_training_the_speedrun_network_leaves_its_edge_filters_alone() -> None:
    network = SpeedrunCNN()
    optimizer = torch.optim.AdamW(network.parameters())
    before = {name: value.clone() for name, value in network.named_parameters()}
    network(torch.rand(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    same = {name for name, value in network.named_parameters() if value.equal(before[name])}
    assert same == {"1.weight"}
