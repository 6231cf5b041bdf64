"""Writes what the contenders read: torchvision's files in ``data``, and ``mnist.npz``."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import random_split

from mnist_lit.data import MNISTDataModule

data = MNISTDataModule()
data.prepare_data()
data.setup("fit")
data.setup("test")
arrays = {}
digits: Any = data.train_set.dataset
for part, subset in (("train", data.train_set), ("val", data.val_set)):
    arrays[f"x_{part}"] = digits.images[subset.indices].numpy()
    arrays[f"y_{part}"] = digits.labels[subset.indices].numpy()
np.savez("mnist.npz", x_test=data.test_set.images, y_test=data.test_set.labels, **arrays)

# The contenders with torchvision divide by themselves; it has to come to the same.
seed = torch.Generator().manual_seed(data.split_seed)
_, train_set = random_split(data.train_set.dataset, [5000, 55_000], generator=seed)
assert sorted(train_set.indices) == data.train_set.indices
