"""`cyclegan inspect`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument, keywords
from cyclegan.cli.settings import add_setting
from cyclegan.config import INSPECTED_SETTINGS, field_sections
from cyclegan.errors import InputError

SUMMARY = "Check folders of images, or the folders of a run, before training."

EXAMPLES = """examples:
  cyclegan inspect photos/ maps/
  cyclegan inspect data/earth --out inspection.html        (data/earth/trainA and data/earth/trainB)
  cyclegan inspect photos/ --test-a photos_held_out/
  cyclegan inspect scenes/ maps/ --bands-a 4,3,2 --nodata-a 0
  cyclegan inspect runs/maps

Decodes every file, then prints its findings and advice; --out adds a page with pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "cyclegan inspect A [B] [--out FILE.html]\n       cyclegan inspect ROOT | RUN [--out FILE.html]"
    add = partial(add_argument, parser)
    paths_help = (
        "Folder or zip of images of one domain or of each, a root that holds trainA and trainB, or a run directory."
    )
    add("paths", Path, paths_help, metavar="A [B]", nargs="*")
    add("--test-a", Path, "Folder of test images of domain A (default: testA of a root).")
    add("--test-b", Path, "Folder of test images of domain B (default: testB of a root).")
    add("--out", Path, "Also write a page with pictures.", metavar="FILE.html")
    reading = parser.add_argument_group("how files are read (as by train; of a run, its own settings)")
    for name in INSPECTED_SETTINGS:
        add_setting(reading, name, field_sections()[name].model_fields[name], None)


def run(parsed: argparse.Namespace) -> None:
    if len(parsed.paths) not in (1, 2):
        given = f"{len(parsed.paths)}: {' '.join(map(str, parsed.paths))}"
        raise InputError(f"Give one folder or two, one root, or one run; these are {given}.")
    # Checked first, since decoding takes minutes.
    if parsed.out is not None and (parsed.out.suffix.lower() not in (".html", ".htm") or parsed.out.is_dir()):
        raise InputError(f"--out is {parsed.out}; expected the name of a page to write, such as inspection.html.")
    from cyclegan.inspection import inspect_folders
    from cyclegan.inspection.view import show_inspection, write_inspection
    from cyclegan.system.messages import make_console
    from cyclegan.system.terminal import say

    found = inspect_folders(*parsed.paths, **keywords(parsed, "paths", "out"))
    show_inspection(found, make_console())
    if parsed.out is not None:
        write_inspection(found, parsed.out)
        say(f"Page: {parsed.out}")
