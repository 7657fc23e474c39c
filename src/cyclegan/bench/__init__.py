"""What training and translation cost on this machine: seconds and memory against image size and batch.

Nothing is imported here: `benchmark.plain` is also read by scripts whose own memory must stay small.
"""
