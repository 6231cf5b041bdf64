import torch
from torch import nn

from mnist_lit.networks import TutorialCNN


def test_tutorial_cnn_has_28_938_parameters():
    assert sum(parameter.numel() for parameter in TutorialCNN().parameters()) == 28_938


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


def test_tutorial_cnn_gives_ten_logits_an_image():
    assert TutorialCNN()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
