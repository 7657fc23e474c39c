"""Advice that names flags, in the words of the command that runs."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Flags of the running command; None in Python programs, whose arguments have the names of the flags.
_flags: ContextVar[Collection[str] | None] = ContextVar("flags", default=None)


@contextmanager
def flags_of_command(flags: Collection[str]) -> Iterator[None]:
    """In the block, `advise` names no other flags than these."""
    token = _flags.set(flags)
    try:
        yield
    finally:
        _flags.reset(token)


def advise(*choices: str) -> str:
    """The first of these pieces of advice whose flags the running command has; the last one should name none."""
    flags = _flags.get()
    if flags is None:
        return choices[0]
    return next((text for text in choices if set(re.findall(r"--[a-z][a-z-]*", text)) <= set(flags)), choices[-1])
