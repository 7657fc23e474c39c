"""Training runs: set up, loop, log, save, resume. `train` is the way in; events and batches are what callers extend."""

from typing import TYPE_CHECKING

from cyclegan._lazy import lazy_exports

if TYPE_CHECKING:
    from cyclegan.data.dataset import Batch
    from cyclegan.training.batch_source import BatchSource
    from cyclegan.training.events import (
        CheckpointSaved,
        Ended,
        Event,
        FileUnreadable,
        LossesLogged,
        LossNotFinite,
        Scored,
        ScoringSkipped,
        SessionStarted,
        SnapshotSaved,
        StepDone,
        ValidationMeasured,
        WarningRaised,
    )
    from cyclegan.training.loop import train

__all__ = [
    "Batch",
    "BatchSource",
    "CheckpointSaved",
    "Ended",
    "Event",
    "FileUnreadable",
    "LossNotFinite",
    "LossesLogged",
    "Scored",
    "ScoringSkipped",
    "SessionStarted",
    "SnapshotSaved",
    "StepDone",
    "ValidationMeasured",
    "WarningRaised",
    "train",
]

_HOMES = {
    **dict.fromkeys(__all__, "cyclegan.training.events"),
    "Batch": "cyclegan.data.dataset",
    "BatchSource": "cyclegan.training.batch_source",
    "train": "cyclegan.training.loop",
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
