"""One's own digits: collected from pictures, and learned by a trained model."""
