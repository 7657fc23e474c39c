"""The studio: one local page to translate images, to watch runs and to look at data before training."""
