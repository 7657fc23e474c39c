"""One training step: state, losses, updates, and how a step executes on a CPU or a GPU."""

from typing import TYPE_CHECKING

from cyclegan._lazy import lazy_exports

if TYPE_CHECKING:
    from cyclegan.step.state import TrainState
    from cyclegan.step.update import train_step

__all__ = ["TrainState", "train_step"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"TrainState": "cyclegan.step.state", "train_step": "cyclegan.step.update"}
)
