"""Look at folders with `inspect`, and at what it says, for tests."""

from rich.console import Console

from cyclegan.inspection import inspect_folders
from cyclegan.inspection.view import show_inspection


def look(*folders, **others):
    return inspect_folders(*folders, quiet=True, **others)


def advice(inspection, topic, problem=True):
    return " ".join(advice.text for advice in inspection.advice if advice.topic == topic and advice.problem == problem)


def copies(inspection, folder, of):
    (found,) = [found for found in inspection.copies if (found.folder, found.of) == (folder, of)]
    return {(str(copy.file), str(copy.of), copy.exact) for copy in found.copies}


def shown(inspection, width=80):
    """What stands on a terminal of that width."""
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    with console.capture() as capture:
        show_inspection(inspection, console)
    return capture.get()


def made(folder):
    folder.mkdir(exist_ok=True)
    return folder
