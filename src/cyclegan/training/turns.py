"""Keep the processes of a training at the same step: they begin, go on and stop together."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from cyclegan.data.dataset import Batch
from cyclegan.errors import InputError, TrainingError
from cyclegan.system.processes import Processes


@dataclass
class Turns:
    """Asks all processes at each step.

    stopped: whether one of them was asked to stop. ended: whether no step follows.
    """

    processes: Processes
    stopped: bool = False
    ended: bool = False

    def begin(self, schedule: Callable[[], tuple[float, float] | None], *, stop: bool) -> tuple[float, float] | None:
        """The learning rate and the cycle factor of the next step; None if the training ends before it.

        schedule: the same, by the clock of the first process, which alone asks it; None at the end of the run. stop:
        whether this process is to stop.
        """
        if self.processes.size == 1:
            self.stopped = stop
            return None if stop else schedule()
        found = schedule() if self.processes.is_first else None
        rate, factor = found or (0.0, 0.0)
        ends = self.processes.is_first and found is None
        num_stopped, num_ends, rate, factor = self.processes.add_up_numbers([float(stop), float(ends), rate, factor])
        self.stopped, self.ended = num_stopped > 0, num_stopped + num_ends > 0
        return None if self.ended else (rate, factor)

    def leave(self) -> None:
        """Stop the other processes, which wait for the next step, because this one ends with an error."""
        if self.processes.size > 1 and not self.ended:
            self.ended = True
            with suppress(TrainingError):  # they have ended before
                self.processes.add_up_numbers([1.0, 0.0, 0.0, 0.0])

    def exchange(self, load: Callable[[], Batch]) -> Batch:
        """The batch of this process, with a mask in each domain where any process has one, and all unreadable files.

        Raises the error of any process in all of them.
        """
        if self.processes.size == 1:
            return load()
        error: Exception | None = None
        batch: Batch | None = None
        try:
            batch = load()
        except (InputError, TrainingError) as found:
            error = found
        masks = (None, None) if batch is None else (batch.mask_a, batch.mask_b)
        is_special = error is not None or (batch is not None and bool(batch.unreadable))
        seen = self.processes.add_up_numbers([float(mask is not None) for mask in masks] + [float(is_special)])
        unreadable: tuple[tuple[str, str], ...] = ()
        if seen[2]:
            with self.processes.together():
                if error is not None:
                    raise error
            assert batch is not None
            unreadable = tuple(sorted({file for part in self.processes.gather(batch.unreadable) for file in part}))
        assert batch is not None
        mask_a, mask_b = (
            torch.ones_like(images[:, :1]) if count and mask is None else mask
            for images, mask, count in zip((batch.a, batch.b), masks, seen, strict=False)
        )
        return replace(batch, mask_a=mask_a, mask_b=mask_b, unreadable=unreadable)
