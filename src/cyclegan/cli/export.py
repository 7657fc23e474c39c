"""`cyclegan export`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import DIRECTIONS, PRECISIONS, WEIGHTS, add_argument, keywords
from cyclegan.errors import InputError

SUMMARY = "Export a model for another program, or as a model directory of its own."

EXAMPLES = """examples:
  cyclegan export runs/maps --format onnx --out exported/maps
  cyclegan export runs/maps --format openvino --out exported/maps --direction a2b --precision bf16
  cyclegan export runs/maps --format openvino --out exported/int8 --precision int8 --calibrate photos/ --direction a2b
  cyclegan export runs/maps --format torch-export --out exported/maps_pt2
  cyclegan export runs/maps --format reference --out checkpoints/maps
  cyclegan export runs/maps --format web --out site --words "photo" "map"
  cyclegan export runs/maps --format model --precision fp16 --out models/maps
  cyclegan export runs/maps --format bioimageio --out exported/maps_zoo --author "Ada Lovelace" --licence CC-BY-4.0
  cyclegan translate exported/maps photo.jpg --out translated/

onnx, openvino, torch-export: writes a2b.onnx (a2b.xml and a2b.bin, a2b.pt2) and the same for b2a, which take batches
and images of any size, and config.json, which describes inputs and outputs. Graphs are compared with torch before they
are put into place. `cyclegan translate` takes the folder; docs/guides/engines.md shows how to run it without cyclegan.

reference: writes latest_net_G_A.pth, latest_net_G_B.pth, latest_net_D_A.pth and latest_net_D_B.pth, as
junyanz/pytorch-CycleGAN-and-pix2pix loads them from its folder checkpoints/NAME.

model: writes a model directory with one set of weights; in fp16 it has half the size.

web: writes a page that translates pictures in the browser, for any web server: docs/guides/browser.md.

bioimageio: writes a2b.bioimageio.zip and b2a.bioimageio.zip for Fiji, QuPath, ilastik, napari and deepImageJ;
docs/guides/bioimageio.md shows how to open them.

Many CPUs have no bf16 or fp16 arithmetic: OpenVINO then refuses these, torch-export warns that it is slow."""


# The arguments that `WebOptions` takes, by name.
_OF_THE_PAGE = ("title", "words", "credits", "examples", "runtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("run_directory", Path, "Run directory, checkpoint or model directory.", metavar="RUN")
    formats = ("model", "reference", "onnx", "openvino", "torch-export", "web", "bioimageio")
    add("--format", formats, "Format to write.", required=True)
    add("--out", Path, "Folder for the files.", required=True)
    add("--direction", (*DIRECTIONS, "both"), "Direction to export", "both")
    precision_help = (
        "Arithmetic of the graph, or type of the weights of a model or a page; images stay float32 (default: fp32; of "
        "web: fp16)."
    )
    add("--precision", PRECISIONS, precision_help)
    images_help = "For int8: folder of input images, or one with trainA and trainB (default: those of the run)."
    add("--calibrate", Path, images_help, metavar="FOLDER")
    author_help = "For bioimageio: name of an author; may be given several times."
    add("--author", str, author_help, metavar="NAME", action="append", dest="authors")
    add("--licence", str, "For bioimageio: SPDX identifier of the licence of the weights, such as CC-BY-4.0.")
    add("--weights", WEIGHTS, "Weights to export (default: those that the run was configured for).")
    add = partial(add_argument, parser.add_argument_group("the page of --format web"))
    add("--title", str, "Title of the page (default: from its words).")
    words_help = "What pictures of A and of B are called (default: the names of the training folders)."
    add("--words", str, words_help, nargs=2, metavar=("A", "B"))
    add("--credits", str, "A line at the bottom, such as a licence.")
    examples_help = "Folder of input images, or one with testA and testB: four of each become examples on the page."
    add("--examples", Path, examples_help, metavar="FOLDER")
    runtime_help = "Folder or tarball of onnxruntime-web (default: from the npm registry, once)."
    add("--runtime", Path, runtime_help, metavar="PATH")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.export import WebOptions, export_model
    from cyclegan.system.terminal import print_result, say

    given = {name: value for name in _OF_THE_PAGE if (value := getattr(parsed, name)) is not None}
    if given and parsed.format != "web":
        raise InputError(f"--{next(iter(given))} is for --format web, and --format is {parsed.format}; leave it out.")
    options = keywords(parsed, "run_directory", "out", *_OF_THE_PAGE)
    web = WebOptions(**given) if given else None
    exported = export_model(parsed.run_directory, parsed.out, say=say, web=web, **options)
    for note in exported.notes:
        say(note)
    for path in exported.files:
        print_result(path)
