"""From a checkpoint to one ONNX file, calibrated and checked."""
