"""The pictures of a sweep: what stands in them."""

import pytest

from mnist_lit.sweep.figures import history_figure, importance_figure, slices_figure


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_the_history_has_every_trial_and_the_best_so_far():
    figure = history_figure({0: 0.5, 2: 0.3, 3: 0.4}, {1: 0.6}, [4])
    axes = figure.axes[0]
    assert labels(figure) == ["best so far", "complete", "pruned", "failed"]
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.5], [2, 0.3], [3, 0.3], [4, 0.3]]
    complete, pruned, failed = (dots.get_offsets().tolist() for dots in axes.collections)
    assert complete == [[0, 0.5], [2, 0.3], [3, 0.4]]
    assert pruned == [[1, 0.6]]
    assert [number for number, _ in failed] == [4]
    assert axes.get_xlim() == (-0.5, 4.5)
    assert figure._suptitle.get_text() == "5 trials, the best with 0.3000"


def test_of_what_did_not_happen_the_history_says_nothing():
    assert labels(history_figure({0: 0.5}, {}, [])) == ["best so far", "complete"]


@pytest.mark.parametrize(("largest", "scale"), [(0.4, "linear"), (2.3, "log")])
def test_losses_far_apart_are_drawn_on_a_logarithmic_scale(largest, scale):
    assert history_figure({0: 0.1, 1: largest}, {}, []).axes[0].get_yscale() == scale
    figure = slices_figure({"lr": "log"}, [{"lr": 1}, {"lr": 2}], [0.1, largest])
    assert figure.axes[0].get_yscale() == scale


def test_the_most_important_parameter_stands_at_the_top():
    axes = importance_figure({"lr": 0.25, "batch_size": 0.75}).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["lr", "batch_size"]
    assert [text.get_text() for text in axes.texts] == ["25%", "75%"]


def test_a_slice_for_each_parameter_with_the_best_trial_ringed():
    scales = {"lr": "log", "batch_size": ["32", "64"], "width": "linear", "a": ["x"], "b": ["y"]}
    params = [
        {"lr": 0.1, "batch_size": "64", "width": 3, "a": "x", "b": "y"},
        {"lr": 0.2, "batch_size": "64", "width": 4, "a": "x", "b": "y"},
    ]
    figure = slices_figure(scales, params, [0.3, 0.2])
    axes = [each for each in figure.axes if each.get_visible()]
    assert [each.get_xlabel() for each in axes] == [*scales]
    assert [each.get_xscale() for each in axes[:3]] == ["log", "linear", "linear"]
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == ["32", "64"]
    dots, ring = axes[0].collections
    assert dots.get_offsets().tolist() == [[0.1, 0.3], [0.2, 0.2]]
    assert ring.get_offsets().tolist() == [[0.2, 0.2]]
    beside = axes[1].collections[0].get_offsets()[:, 0].tolist()
    assert beside[0] == 1
    assert 0.5 < beside[1] < 1.5
    assert beside[1] != 1


@pytest.mark.parametrize("high", [0.0012, 0.02, 0.1, 100.0])
def test_the_numbers_at_a_logarithmic_axis_are_few(high):
    figure = slices_figure({"lr": "log"}, [{"lr": 0.001}, {"lr": high}], [0.3, 0.2])
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    low, top = axis.get_view_interval()
    shown = [tick for tick in axis.get_ticklocs() if low <= tick <= top]
    assert 2 <= len(shown) <= 6
    assert axis.get_ticklocs(minor=True).size == 0
