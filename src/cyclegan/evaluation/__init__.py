"""Score a model on test images."""
