"""What one process computes of a training step, and how the processes add up what they found.

Two ways to share a step. By images: each process has some of the images of a batch, in both directions. By direction:
each has one of the round trips, A -> B -> A or B -> A -> B, which share only weights. In both, the gradient of a step
is the sum of what the processes found, so that the networks are those of one process with the same batch, to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.system.processes import ALONE, Processes

ShareBy: TypeAlias = Literal["auto", "images", "directions"]

_BOTH: tuple[Direction, ...] = ("a2b", "b2a")


@dataclass(frozen=True)
class Share:
    """The part of every step that one process computes: some directions of some images of the batch.

    part, parts: it has the images of part number `part`, from 0 on, of a batch in so many equal parts.
    """

    directions: tuple[Direction, ...] = _BOTH
    part: int = 0
    parts: int = 1
    processes: Processes = ALONE
    # The group of the processes with the same directions and other images.
    _alike: int | None = None

    @classmethod
    def of(cls, processes: Processes, batch_size: int, share_by: ShareBy = "auto") -> Self:
        """The share of this process. auto: by images if their number is a multiple of the processes.

        Raises InputError if the processes cannot share a batch of this size equally.
        """
        size, rank = processes.size, processes.rank
        if size == 1:
            return cls()
        if share_by == "auto":
            share_by = "images" if batch_size % size == 0 else "directions"
        ways = 1 if share_by == "images" else 2
        parts = size // ways  # processes of each direction
        if size % ways or batch_size % parts:
            most = ways * batch_size
            possible = [count for count in range(1, most + 1) if most % count == 0]
            by_direction = "" if size % 2 else f", or of {size // 2} with --share-by directions"
            if size == 2:
                by_direction = ", or --share-by directions"
            raise InputError(
                f"{size} processes cannot share a batch of {batch_size} {_images(batch_size)} of each domain by "
                f"{share_by}; start {_either(possible)}, or pass a --batch-size that is a multiple of "
                f"{size}{by_direction}."
            )
        way, part = divmod(rank, parts)
        directions = _BOTH if ways == 1 else (_BOTH[way],)
        return cls(directions, part, parts, processes, processes.make_groups(ways)[way])

    def __str__(self) -> str:
        size = self.processes.size
        if self.is_whole:
            return "1 process"
        if len(self.directions) == 2:
            return f"{size} processes share the images of a step"
        return f"{size} processes share a step by direction{'' if size == 2 else ' and by images'}"

    @property
    def is_whole(self) -> bool:
        """Whether this process computes the whole step."""
        return self.processes.size == 1

    @property
    def weight(self) -> float:
        """The weight of a mean over the images of this process in the mean over the batch."""
        return 1 / self.parts

    def own(self, batch: Tensor) -> Tensor:
        """The images of this process out of a batch, (N, ...)."""
        count = len(batch) // self.parts
        return batch[self.part * count : (self.part + 1) * count]

    def whole(self, parts: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], like: Tensor) -> dict[str, Tensor]:
        """The batches of all processes, from the own images by name, which may be only some of the names.

        shapes: of the batch of each name, (N, C, H, W). like: a tensor of their type, on their device.
        """
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        flat = like.new_zeros(sum(sizes))  # what others have computed is added
        batches = {
            name: part.view(shape) for (name, shape), part in zip(shapes.items(), torch.split(flat, sizes), strict=True)
        }
        for name, part in parts.items():
            self.own(batches[name]).copy_(part)
        self.processes.add_up(flat)
        return batches

    def add_up(self, losses: dict[str, Tensor], names: list[str], like: Tensor) -> dict[str, Tensor]:
        """The losses of the whole batch, from those of the own part; 0 for a name that no process has."""
        zero = like.new_zeros(())
        if self.is_whole:
            return {name: losses.get(name, zero) for name in names}
        summed = torch.stack([losses.get(name, zero) for name in names]) * self.weight
        self.processes.add_up(summed)
        return dict(zip(names, summed.unbind(), strict=True))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let `mean_over_processes` in the block mean the processes with the same directions."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)


_ACTIVE: ContextVar[Share | None] = ContextVar("share", default=None)


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a number over the processes that compute the same losses on other images; x itself without others.

    A mean with weights divides by it, so that the mean of such means is that of the whole batch.
    """
    share = _ACTIVE.get()
    if share is None or share.parts == 1:
        return x
    x = x.detach().clone()
    share.processes.add_up(x, share._alike)
    return x * share.weight


def _images(count: int) -> str:
    return "image" if count == 1 else "images"


def _either(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last} processes" if first else "1 process"
