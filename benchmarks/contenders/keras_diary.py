"""The images and the diary of both that train with Keras."""

from typing import Any

import keras
import numpy as np
from diary import Diary


def images_and_labels(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load ``train``, ``val`` or ``test`` as Keras's example prepares them.

    Returns:
        ``float32 (n, 28, 28, 1)`` in [0, 1], and one-hot labels ``(n, 10)``.
    """
    with np.load("mnist.npz") as arrays:
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    scaled = images.astype("float32") / 255
    return np.expand_dims(scaled, -1), keras.utils.to_categorical(labels, 10)


class Witness(keras.callbacks.Callback):  # type: ignore[misc]
    """Tests after each epoch and its validation.

    Keras waits for a callback at the end of every batch, as it does not for some of its own; three
    pairs of epochs with and without this one showed no clear difference.

    Args:
        epochs: See :class:`diary.Diary`.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.diary = Diary(epochs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.diary.note("begin")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.diary.stepped()
        if batch + 1 == self.params["steps"]:
            self.diary.note("trained")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.diary.note("test")
        _, accuracy = self.model.evaluate(*images_and_labels("test"), verbose=0)
        self.model.stop_training = self.diary.tested(accuracy)

    def on_train_end(self, logs: Any = None) -> None:
        self.diary.note("end")
