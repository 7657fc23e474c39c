"""The processes that train together: one alone, or several that torchrun has started."""

import importlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cyclegan.errors import CycleganError, InputError, TrainingError

# Seconds to find each other. Later, one process may keep the others waiting: it saves and scores.
_START_SECONDS = 300
_WAIT_SECONDS = 3600

# What torchrun sets for each process, and what init_process_group reads.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them.

    rank: the number of this process, from 0 on; 0 alone writes and prints. size: how many there are. local_rank: its
    number on its machine. All methods are for all processes at once, in the same order; alone they return at once.
    They raise OtherEndedError if another process has ended.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    # The groups of torch.distributed: first that for all but tensors, which goes through CPUs even with GPUs. They are
    # let go when the training ends, because their threads may crash a program that ends while they run.
    _groups: list[Any] = field(default_factory=list, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def add_up(self, x: Tensor, group: int | None = None) -> None:
        """Replace a tensor by its sum over all processes, or those of a group, bit for bit the same in all of them."""
        self.start_adding_up(x, group)()

    def start_adding_up(self, x: Tensor, group: int | None = None) -> Callable[[], None]:
        """Start `add_up`, and return a function that waits for its end. Until then nothing may touch the tensor."""
        if self.size == 1:
            return lambda: None
        with _ends_named():
            work = dist.all_reduce(x, group=None if group is None else self._groups[group], async_op=True)

        def wait() -> None:
            with _ends_named():
                work.wait()

        return wait

    def make_groups(self, count: int) -> list[int]:
        """Make so many groups of equally many processes, by rank. Returns their numbers, for `add_up`."""
        size, first_number = self.size // count, len(self._groups)
        with _ends_named():
            self._groups.extend(dist.new_group(range(first, first + size)) for first in range(0, self.size, size))
        return list(range(first_number, len(self._groups)))

    def add_up_numbers(self, numbers: list[float]) -> list[float]:
        """The sums of some numbers over all processes, exact for whole numbers and for one number and zeros."""
        if self.size == 1:
            return numbers
        x = torch.tensor(numbers, dtype=torch.float64)
        with _ends_named():
            dist.all_reduce(x, group=self._groups[0])
        return x.tolist()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank. They are small, and travel as pickles between these processes only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _ends_named():
            dist.all_gather_object(values, value, group=self._groups[0])
        return values

    def from_first(self, value: Any = None) -> Any:
        """The value that the first process passes."""
        if self.size == 1:
            return value
        values = [value]
        with _ends_named():
            dist.broadcast_object_list(values, src=0, group=self._groups[0])
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise an InputError or a TrainingError of any process in all of them, so that none waits for another."""
        error: CycleganError | None = None
        try:
            yield
        except (InputError, TrainingError) as found:
            if self.size == 1:
                raise
            error = found
        errors = self.gather(None if error is None else (type(error), str(error)))
        for rank, each in enumerate(errors):
            if each is not None:
                kind, text = each
                shared = kind(text if rank == 0 else f"Process {rank} of {self.size}: {text}")
                shared.is_said = not self.is_first
                raise shared

    def check_equal(self, value: Any, text: str) -> None:
        """Raise InputError with this text, which has a place for `{rank}`, if another process has another value."""
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                error = InputError(text.format(rank=rank))
                error.is_said = not self.is_first
                raise error


ALONE = Processes()


class OtherEndedError(TrainingError):
    """Another process has ended, so that this one cannot go on."""


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes that torchrun has started, joined until the end of the block; alone without torchrun.

    device: cpu, cuda, ... or auto; with GPUs, tensors travel by NCCL. A process group of the host program is used as it
    is. Raises InputError if the variables of torchrun are incomplete, or if the others are not found.
    """
    if dist.is_available() and dist.is_initialized():
        yield _describe()
        return
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start all processes with torchrun, or unset "
            "WORLD_SIZE."
        )
    if not dist.is_available():
        raise InputError(f"This torch {torch.__version__} cannot train on several processes; install another build.")
    # Its functions have the default group as a default value. Imported later, by torch itself, it would keep the
    # group and its threads beyond the end of the training.
    importlib.import_module("torch.distributed.nn.functional")

    on_gpus = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpus and not dist.is_nccl_available():
        raise InputError(f"This torch {torch.__version__} has no NCCL, by which GPUs talk; pass --device cpu.")
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=timedelta(seconds=_START_SECONDS))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"Process {_number('RANK', 0)} of {size} did not find the others at {where} ({_first_line(error)}); check "
            "that all of them have been started, and that this address can be reached."
        ) from None
    processes = ALONE
    try:
        processes = _describe()
        yield processes
    finally:
        with suppress(RuntimeError):  # the others may have ended before
            dist.destroy_process_group()
        processes._groups.clear()


def is_first_process() -> bool:
    """Whether this process is the first of those that torchrun has started, or the only one."""
    return not is_one_of_several() or _number("RANK", 0) == 0


def is_one_of_several() -> bool:
    """Whether torchrun has started this process and others."""
    return _number("WORLD_SIZE", 1) > 1


def _describe() -> Processes:
    size = dist.get_world_size()
    if size == 1:
        return ALONE
    control = dist.new_group(backend="gloo", timeout=timedelta(seconds=_WAIT_SECONDS))
    return Processes(dist.get_rank(), size, _number("LOCAL_RANK", dist.get_rank()), [control])


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise InputError(f"The variable {name} is {text!r}; expected a number, as torchrun sets it.")
    return int(text)


@contextmanager
def _ends_named() -> Iterator[None]:
    """Turn the end of another process into one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise OtherEndedError(
            f"Another process of this training has ended or cannot be reached ({_first_line(error)}); its own message "
            "says why."
        ) from None


def _first_line(error: Exception) -> str:
    """What a library says, without its source files and general advice."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\S+:\d+\] ", "", text).partition(" This is typically ")[0].rstrip(".")
