"""From a picture to digits, on ONNX Runtime, without torch."""
