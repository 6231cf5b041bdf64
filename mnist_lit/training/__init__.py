"""Everything a run does besides learning: resuming, run records, TensorBoard, processes."""
