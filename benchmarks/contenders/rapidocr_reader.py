"""RapidOCR with the models in its package and its own defaults, but one thread.

``to_markdown`` is its own way to put the pieces of text that it finds into lines.
"""

from pathlib import Path

import cv2
from rapidocr import RapidOCR
from timed import read_all

cv2.setNumThreads(1)
engine = RapidOCR(
    params={
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Global.log_level": "critical",  # it warns of each picture in which it finds nothing
    }
)


def read(picture: Path) -> str:
    """The text in a picture; none if nothing is found."""
    found = engine(picture)
    return found.to_markdown() if found.txts else ""


read_all(read)
