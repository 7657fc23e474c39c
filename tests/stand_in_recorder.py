"""A recorder of steps for machines without CUDA."""

from unittest.mock import patch

import torch


class StandIn:
    """Records like CUDA, as far as a CPU can: one set of inputs and of outputs, written again at each replay."""

    def __init__(self):
        self.num_recordings, self.num_replays = 0, 0

    def warm_up(self, function):
        return self._alone(function)

    def record(self, function):
        self.num_recordings += 1
        outputs = []

        def replay():
            self.num_replays += 1
            new = self._alone(function)
            if not outputs:
                outputs.extend(torch.full_like(x, torch.nan) for x in new)
            for kept, value in zip(outputs, new, strict=True):
                kept.copy_(value)

        return outputs, replay

    def _alone(self, function):
        """Call the function, which may not send anything to another process."""
        with patch("torch.distributed.all_reduce", side_effect=AssertionError("a message inside a recording")):
            return function()
