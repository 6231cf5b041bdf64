"""The network: its size, and pictures of any size and contrast."""

import pytest
import torch

from mnist_lit.detection.network import DetectionNetwork, contrasts


@pytest.fixture(scope="module")
def network() -> DetectionNetwork:
    torch.manual_seed(0)
    return DetectionNetwork().eval()


def test_the_network_is_small(network: DetectionNetwork) -> None:
    parameters = sum(each.numel() for each in network.parameters())
    assert parameters == 671_407
    assert parameters <= 700_000


@pytest.mark.parametrize(("height", "width"), [(256, 256), (96, 64), (75, 163), (40, 201), (9, 9)])
def test_maps_are_a_quarter_of_the_picture_of_any_size(
    network: DetectionNetwork, height: int, width: int
) -> None:
    with torch.inference_mode():
        maps = network(torch.rand(2, 1, height, width))
    places = (-(-height // 4), -(-width // 4))
    assert [tuple(each.shape) for each in maps] == [(2, n, *places) for n in (1, 2, 2, 10)]


def test_before_training_there_are_few_digits(network: DetectionNetwork) -> None:
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 128, 128)).center.sigmoid().mean() < 0.1


def test_faint_ink_looks_like_dark_ink() -> None:
    ink = torch.zeros(1, 1, 96, 96)
    ink[..., 40:60, 44:47] = 1
    dark, faint = (contrasts(0.9 - strength * ink) for strength in (0.8, 0.2))
    for channel in (0, 1):
        ratio = dark[0, channel].amin() / faint[0, channel].amin()
        assert 1 < ratio < 2.5  # of contrasts that differ by a factor of four


def test_a_plain_picture_has_finite_maps(network: DetectionNetwork) -> None:
    with torch.inference_mode():
        for shade in (0.0, 0.5, 1.0):
            maps = network(torch.full((1, 1, 64, 64), shade))
            assert all(each.isfinite().all() for each in maps)
