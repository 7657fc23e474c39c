"""Measure what training and translation cost on this machine: seconds and memory against image size and batch.

Nothing is imported here: scripts whose own memory must stay small import `bench.plain`.
"""
