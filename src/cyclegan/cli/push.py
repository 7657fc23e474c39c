"""`cyclegan push`."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.cli.arguments import WEIGHTS, add_argument, keywords
from cyclegan.system.terminal import print_result, printable, say

if TYPE_CHECKING:
    from cyclegan.publishing.publish import Parcel

SUMMARY = "Publish a trained model on the Hugging Face Hub, with a model card."

EXAMPLES = """examples:
  cyclegan push runs/maps user/maps --dry-run card         (look at card/README.md first; sends nothing)
  cyclegan push runs/maps user/maps --licence cc-by-4.0 --data-licence "photos: mine; maps: public domain"
  cyclegan push runs/maps/best user/maps --private

Log in first with `hf auth login`, or set HF_TOKEN. A push is one commit: if it fails, nothing changes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("run_directory", Path, "Run directory, checkpoint or model directory.", metavar="RUN")
    add("repo_id", str, "Repository, which is created if there is none.", metavar="USER/NAME")
    add("--private", bool, "Make a new repository private.")
    add("--message", str, "Commit message (default: the step of the model).")
    add("--licence", str, "Licence of the weights, by its id at the Hub: mit, cc-by-4.0, ...", metavar="ID")
    add("--data-licence", str, "Licence of the images, in words for the card.")
    add("--weights", WEIGHTS, "Send only these weights (default: all).")
    add("--no-samples", bool, "Publish no pictures of your images.")
    add("--overwrite", bool, "Push into a repository that holds other files.")
    add("--dry-run", Path, "Write everything into this new folder and send nothing.")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.publishing.publish import push

    try:
        options = keywords(parsed, "run_directory", "repo_id", "no_samples")
        address = push(parsed.run_directory, parsed.repo_id, samples=not parsed.no_samples, show=_show, **options)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("Stopped; files that were not committed are not published.") from stop
    if parsed.licence is None:
        say("The card states no licence; --licence ID does, such as --licence cc-by-4.0.")
    print_result(address)


def _show(parcel: "Parcel") -> None:
    """What will be sent, and where, on stderr."""
    from rich import box
    from rich.filesize import decimal
    from rich.table import Table

    from cyclegan.system.messages import make_console

    there = parcel.remote.files if parcel.remote is not None else ()
    state = f"{'existing' if parcel.remote is not None else 'new'}, {'private' if parcel.private else 'public'}"
    state = "nothing is sent" if parcel.dry_run else state
    console = make_console(stderr=True, soft_wrap=True)
    console.print(f"To {parcel.address} ({state}):")
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, show_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, size in parcel.files.items():
        table.add_row(printable(f"  {name}"), decimal(size), "replaces an existing file" if name in there else "")
    for name in parcel.delete:
        table.add_row(printable(f"  {name}"), "", "is deleted: part of the previous model")
    table.add_row(f"  {len(parcel.files)} files", decimal(sum(parcel.files.values())), "")
    console.print(table)
    if any(name.startswith("samples/") for name in parcel.files):
        console.print("The pictures in samples/ show images of your folders; --no-samples leaves them out.")
