"""Warnings of functions that have no messages of their own. Loads rich only when there is one."""

_SHOWN: set[str] = set()


def warn_once(text: str) -> None:
    """Show and log a warning, unless this process has shown it."""
    if text not in _SHOWN:
        from cyclegan.system.messages import Messages

        _SHOWN.add(text)
        Messages("storage").warning(text)
