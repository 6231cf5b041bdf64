"""``Reader`` with the packaged model, which uses one thread: ``mnist_lit_reader.py``."""

import cv2
from timed import read_all

from mnist_lit import Reader

cv2.setNumThreads(1)
reader = Reader()
read_all(lambda picture: reader.read(picture).text)
