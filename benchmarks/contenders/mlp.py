"""scikit-learn's MLPClassifier with its own defaults: ``mlp.py SEED EPOCHS``.

``partial_fit`` of all images is one epoch, and goes on with the optimizer of the epoch before;
``fit`` with ``warm_start`` would begin with a new one. A step of it cannot be seen from outside:
the first is noted just before.
"""

import sys

import numpy as np
from diary import Diary
from sklearn.neural_network import MLPClassifier

seed, epochs = map(int, sys.argv[1:])
diary = Diary(epochs)

with np.load("mnist.npz") as arrays:
    x_train, x_test = (arrays[name].reshape(-1, 784) / 255 for name in ("x_train", "x_test"))
    y_train, y_test = arrays["y_train"], arrays["y_test"]
# A number would begin anew, and shuffle alike, in every epoch.
model = MLPClassifier(random_state=np.random.RandomState(seed))

enough = False
while not enough:
    diary.note("begin")
    diary.stepped()
    model.partial_fit(x_train, y_train, classes=np.arange(10))
    diary.note("trained")
    enough = diary.tested(model.score(x_test, y_test))
diary.note("end")
