from typing import Any

import numpy as np
import pytest

from mnist_lit.reading.mnist_form import normalize


def test_the_form_is_mnists() -> None:
    bar = np.zeros((400, 300), np.float32)
    bar[50:350, 100:160] = 0.7
    form: Any = normalize(bar)
    assert (form.shape, form.dtype, form.max()) == ((28, 28), np.float32, 1)
    rows, columns = (np.flatnonzero(form.max(axis=axis) > 0.1) for axis in (1, 0))
    assert (len(rows), len(columns)) == (20, 4)
    assert form.sum(axis=1) @ np.arange(28) / form.sum() == pytest.approx(14, abs=0.5)
    assert form.sum(axis=0) @ np.arange(28) / form.sum() == pytest.approx(14, abs=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_the_form_of_any_shape_is_in_range(shape: tuple[int, int]) -> None:
    form = normalize(np.ones(shape, np.float32))
    assert form.shape == (28, 28)
    assert form.max() == 1
    assert np.isfinite(form).all()
    assert not normalize(np.zeros(shape, np.float32)).any()
