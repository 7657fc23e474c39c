"""The errors that `cyclegan` raises."""


class InputError(ValueError):
    """Something a user gave cannot be used. The message names the value, what was expected and what to do."""


class UnreadableError(ValueError):
    """A file that is damaged or of another kind than its name says. One such file does not end a run."""


class TrainingError(RuntimeError):
    """Training had to stop. The message says why, which checkpoint is good, and what to do."""
