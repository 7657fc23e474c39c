"""Train two generators from two folders: setup, loop, checkpoints, scores and logs."""
