"""Image metrics as pure functions, and the feature networks that they use."""
