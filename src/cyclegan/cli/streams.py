"""Standard input in the place of a file, as in `cat x.png | cyclegan translate RUN - --out - > y.png`."""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclegan.errors import CycleganError, InputError
from cyclegan.system.terminal import is_terminal_output, send_file

# Standard input or output on a command line.
STREAM = Path("-")


class StreamNames:
    """Shows files in a temporary folder as standard input or output in messages. folder: None until there is one."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def shown(self, text: str) -> str:
        if self.folder is None:
            return text
        text = re.sub(re.escape(f"{self.folder}/stdout/") + r"[\w.]+", "standard output", text)
        return re.sub(re.escape(f"{self.folder}/stdin") + r"[\w.]*", "standard input", text)


@contextmanager
def files_for_streams(paths: list[Path], out: Path, names: StreamNames) -> Iterator[tuple[list[Path], Path]]:
    """Inputs and output with files in the place of `-`: standard input is read before the block.

    The one file that the block writes goes to standard output after it. names: receives the folder of these files,
    and errors of the block are shown with them.
    Raises InputError for streams that cannot be used so.
    """
    from_stdin, to_stdout = STREAM in paths, out == STREAM
    if not from_stdin and not to_stdout:
        yield paths, out
        return
    if from_stdin and len(paths) > 1:
        raise InputError(f"The inputs are - and {len(paths) - 1} more; give standard input alone.")
    if to_stdout and is_terminal_output():
        raise InputError("--out is -, and standard output is a terminal; send it to a file or a program: > y.png")
    with tempfile.TemporaryDirectory(prefix="cyclegan-") as folder:
        names.folder = place = Path(folder)
        try:
            inputs = [_read_input(place)] if from_stdin else paths
            yield inputs, place / "stdout" if to_stdout else out
            if to_stdout:
                written = [path for path in place.glob("stdout/*") if path.is_file()]
                if written:
                    send_file(written[0])
        except (CycleganError, OSError) as error:
            if folder not in str(error):
                raise
            raise InputError(names.shown(str(error))) from error


def _read_input(folder: Path) -> Path:
    """Write standard input to a file in `folder`, named by its content.

    Raises InputError if it is a terminal, empty, or not an image of a known format.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "The input is -, and nothing is sent to standard input: cat x.png | cyclegan translate RUN - ..."
        )
    from cyclegan.images.by_content import suffix_by_content

    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise InputError("Standard input is empty; expected an image.")
    suffix = suffix_by_content(path)
    if suffix is None:
        raise InputError("Standard input is not an image of a known format, or it is damaged.")
    return path.rename(path.with_suffix(suffix))
