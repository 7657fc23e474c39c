"""Image files, arrays and tensors."""
