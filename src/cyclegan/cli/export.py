"""`cyclegan export`."""

import argparse
from pathlib import Path

SUMMARY = "Write a model by itself, or in the format of another program."

EXAMPLES = """examples:
  cyclegan export runs/maps --format onnx --out exported/maps
  cyclegan export runs/maps --format openvino --out exported/maps --direction a2b --precision bf16
  cyclegan export runs/maps --format openvino --out exported/int8 --precision int8 --calibrate photos/ --direction a2b
  cyclegan export runs/maps --format torch-export --out exported/maps_pt2
  cyclegan export runs/maps --format reference --out checkpoints/maps
  cyclegan export runs/maps --format model --precision fp16 --out models/maps
  cyclegan translate exported/maps photo.jpg --out translated/

onnx, openvino, torch-export: a2b.onnx (a2b.xml and a2b.bin, a2b.pt2) and b2a of the same kind, for a batch of any size
and images of any size, and config.json, which says what goes in and comes out. Each is compared with torch before it is
put in its place. `cyclegan translate` takes the folder; docs/engines.md runs it without cyclegan.
reference: latest_net_G_A.pth, latest_net_G_B.pth and the discriminators latest_net_D_A.pth and latest_net_D_B.pth, as
junyanz/pytorch-CycleGAN-and-pix2pix loads them from its folder checkpoints/NAME.
bf16 and fp16 need arithmetic that many CPUs lack: OpenVINO then refuses them, torch-export warns that it is slow.
model: a model directory with one set of weights, to pass on or to keep; fp16 is half the size."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="run directory, checkpoint or model directory")
    parser.add_argument(
        "--format",
        choices=("model", "reference", "onnx", "openvino", "torch-export"),
        required=True,
        help="what to write",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--direction", choices=("a2b", "b2a", "both"), default="both", help="default: both")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="what the graph computes in, or a model's weights are kept in; images are float32 (default: fp32)",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="for int8: images of the input's domain, or a folder with trainA and trainB (default: those of the run)",
    )
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")


def run(parsed: argparse.Namespace) -> None:
    import sys

    from cyclegan.export import export
    from cyclegan.system.progress import signals_interrupt

    with signals_interrupt():
        exported = export(
            parsed.run_directory,
            parsed.out,
            format=parsed.format,
            direction=parsed.direction,
            weights=parsed.weights,
            precision=parsed.precision,
            calibrate=parsed.calibrate,
            say=lambda line: print(line, file=sys.stderr),
        )
    for note in exported.notes:
        print(note, file=sys.stderr)
    for path in exported.files:
        print(path)
