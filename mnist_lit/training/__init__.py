"""What a run does besides learning: resuming, its record, TensorBoard, processes."""
