"""The losses of a run as a table for other programs."""

import csv
import io
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.report.record import read_record
from cyclegan.system.atomic import write_bytes


def write_losses(run: Path, target: Path) -> None:
    """Write a CSV file with one line for each line of losses in log.jsonl.

    Columns: step, epoch, seconds, images_per_second, learning_rate, and every loss by its name, in the order of the
    log. A value that a line lacks is empty. Raises InputError if the run has logged no losses yet.
    """
    losses = read_record(run).losses
    if not losses:
        raise InputError(f"{run} has logged no losses yet; the first come after --log-steps steps.")
    names = list(dict.fromkeys(name for line in losses for name in line))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(losses)
    write_bytes(target, text.getvalue().encode())
