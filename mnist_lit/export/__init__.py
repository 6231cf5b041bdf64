"""Export a checkpoint to a single ONNX file, calibrated and verified."""
