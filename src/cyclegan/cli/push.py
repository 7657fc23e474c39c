"""`cyclegan push`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclegan.publishing.publish import Parcel

SUMMARY = "Publish a trained model on the Hugging Face Hub, with a model card."

EXAMPLES = """examples:
  cyclegan push runs/maps user/maps --dry-run card         (look at card/README.md first; sends nothing)
  cyclegan push runs/maps user/maps --licence cc-by-4.0 --data-licence "photos: mine; maps: public domain"
  cyclegan push runs/maps/best user/maps --private

Log in first with `hf auth login`, or set HF_TOKEN. A push is one commit: if it fails, nothing changes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="Run directory, checkpoint or model directory.")
    parser.add_argument("repo_id", metavar="USER/NAME", help="Repository, which is created if there is none.")
    parser.add_argument("--private", action="store_true", help="Make a new repository private.")
    parser.add_argument("--message", metavar="TEXT", help="Commit message (default: the step of the model).")
    parser.add_argument(
        "--licence", metavar="ID", help="Licence of the weights, by its id at the Hub: mit, cc-by-4.0, ..."
    )
    parser.add_argument("--data-licence", metavar="TEXT", help="Licence of the images, in words for the card.")
    parser.add_argument("--weights", choices=("final", "average"), help="Send only these weights (default: all).")
    parser.add_argument("--no-samples", action="store_true", help="Publish no pictures of your images.")
    parser.add_argument("--overwrite", action="store_true", help="Push into a repository that holds other files.")
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="Write everything into this new folder and send nothing."
    )


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.publishing.publish import push

    try:
        address = push(
            parsed.run_directory,
            parsed.repo_id,
            private=parsed.private,
            message=parsed.message,
            licence=parsed.licence,
            data_licence=parsed.data_licence,
            weights=parsed.weights,
            samples=not parsed.no_samples,
            overwrite=parsed.overwrite,
            dry_run=parsed.dry_run,
            show=_show,
        )
    except KeyboardInterrupt:
        print("Stopped; what was not committed yet is not there.", file=sys.stderr)
        raise
    if parsed.licence is None:
        print("The card states no licence; --licence ID does, such as --licence cc-by-4.0.", file=sys.stderr)
    print(address)


def _show(parcel: "Parcel") -> None:
    """What will be sent, and where, on stderr."""
    from rich import box
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    there = parcel.remote.files if parcel.remote is not None else ()
    state = f"{'there already' if parcel.remote is not None else 'new'}, {'private' if parcel.private else 'public'}"
    state = "nothing is sent" if parcel.dry_run else state
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"To {parcel.address} ({state}):")
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, show_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, size in parcel.files.items():
        table.add_row(f"  {name}", decimal(size), "replaces the one there" if name in there else "")
    for name in parcel.delete:
        table.add_row(f"  {name}", "", "is deleted there: of the model before")
    table.add_row(f"  {len(parcel.files)} files", decimal(sum(parcel.files.values())), "")
    console.print(table)
    if any(name.startswith("samples/") for name in parcel.files):
        console.print("The pictures in samples/ show images of your folders; --no-samples leaves them out.")
