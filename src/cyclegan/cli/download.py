"""`cyclegan download`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument
from cyclegan.errors import InputError
from cyclegan.system.terminal import print_result, say, shell_quote

SUMMARY = "Download a dataset or a pretrained model by its name."

EXAMPLES = """examples:
  cyclegan download --list
  cyclegan download horse2zebra
  cyclegan download horse2zebra --model
  cyclegan download style_monet --mirror https://example.org/cyclegan
  cyclegan download earth --variant etopo1 --out data/etopo1
  cyclegan download earth16                    (elevation in metres, one 16-bit channel)
  cyclegan download brain                      (slices of a T1 volume, and of its grey matter)

The same command resumes a download that was interrupted. Sizes and SHA-256 are checked where they are known.
A mirror keeps the files as URL/datasets/NAME.zip and URL/pretrained_models/NAME.pth."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("name", str, "Dataset or model to download; --list shows the names.", metavar="NAME", nargs="?")
    add("--list", bool, "List all datasets and models.")
    add("--model", bool, "Download the pretrained model if a dataset has the same name.")
    variant_help = "Maps of earth: shadedrelief (pale relief) or etopo1 (coloured heights and depths)"
    add("--variant", str, variant_help, "shadedrelief", metavar="NAME")
    add("--out", Path, "Folder to write (default: data/NAME, data/NAME-VARIANT, or models/NAME for a model).")
    mirror_help = "Server to use instead of the authors' (default: environment variable CYCLEGAN_MIRROR, if set)."
    add("--mirror", str, mirror_help, metavar="URL")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.datasets import DATASETS, download
    from cyclegan.datasets.catalogue import MODELS, unknown

    name = parsed.name
    if parsed.list:
        _show_list()
        return
    if name is None:
        parsed.command_parser.error("no NAME was given; --list shows what there is")
    if name != "earth" and parsed.variant != "shadedrelief":
        raise InputError(f"--variant is for earth; {name} has one form.")
    if parsed.model or (name in MODELS and name not in DATASETS):
        print_result(_get_model(name, parsed.out or Path("models") / name, parsed.mirror))
        return
    if name not in (names := (*DATASETS, "cityscapes")):
        raise unknown(name, (*names, *MODELS))
    folder = name if parsed.variant == "shadedrelief" else f"{name}-{parsed.variant}"
    print_result(download(name, parsed.out or Path("data") / folder, variant=parsed.variant, mirror=parsed.mirror))


def _get_model(name: str, out: Path, mirror: str | None) -> Path:
    """Download a model and convert it into the model directory `out`. The downloaded file is not kept."""
    from cyclegan.datasets.standard import model_file
    from cyclegan.reference.importing import import_reference
    from cyclegan.storage.model import read_info

    if (out / "config.json").is_file() and f"{name}.pth" in (read_info(out).origin or ""):
        say(f"{out} already exists; remove it to download it again.")
        return out
    with model_file(name, out, mirror=mirror) as file:
        try:
            made = import_reference(file, out=file.with_suffix(""), direction="a2b").path
        except InputError as error:  # the file is removed, so its path says nothing
            raise InputError(str(error).replace(str(file), f"The downloaded {file.name}")) from None
        if out.exists():
            out.rmdir()
        made.rename(out)
    say(f"Translate with: cyclegan translate {shell_quote(out)} IMAGES --out FOLDER")
    return out


def _show_list() -> None:
    from rich.table import Table

    from cyclegan.datasets.catalogue import MODELS, STANDARD
    from cyclegan.datasets.fetching import show_bytes
    from cyclegan.system.messages import make_console

    console = make_console()
    if not console.is_terminal:
        console.width = 160  # do not fold lines at 80 columns for other programs
    table = Table(show_edge=False, pad_edge=False)
    for column in ("name", "kind", "A", "B", "size", "SHA-256"):
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for name, a, b in (
        ("earth", "satellite photos", "maps"),
        ("earth16", "satellite photos", "elevation, 16-bit"),
        ("brain", "T1 slices of a head", "grey matter"),
    ):
        table.add_row(name, "dataset", a, b, "", "built here")
    entries = [("dataset", entry) for entry in STANDARD.values()]
    entries += [("model", entry) for entry in MODELS.values()]
    for kind, entry in entries:
        size = show_bytes(entry.num_bytes) if entry.num_bytes else "unknown"
        table.add_row(entry.name, kind, entry.a, entry.b, size, "checked" if entry.sha256 else "unknown")
    table.add_row("cityscapes", "dataset", "street photos", "label maps", "", "explains how")
    console.print(table)
