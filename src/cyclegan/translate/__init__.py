"""Translate images with a trained generator: arrays, files of any size, engines."""
