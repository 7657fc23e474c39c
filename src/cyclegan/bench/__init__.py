"""Measure time and memory of training and translation on this machine against image size and batch.

Nothing is imported here: scripts whose own memory must stay small import `bench.plain`.
"""
