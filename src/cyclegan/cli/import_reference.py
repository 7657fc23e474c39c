"""`cyclegan import`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import DIRECTIONS, add_argument

SUMMARY = "Import checkpoints of the reference implementation (junyanz/pytorch-CycleGAN-and-pix2pix)."

EXAMPLES = """examples:
  cyclegan import checkpoints/maps_cyclegan --out models/maps
  cyclegan import checkpoints/maps_cyclegan --epoch 100 --out models/maps100
  cyclegan import horse2zebra.pth zebra2horse.pth --out models/horse2zebra
  cyclegan import latest_net_G_B.pth --out models/maps_b2a

The architecture is read from the tensors. No code of the files is executed.
If file names do not say the direction, the first generator is a2b and the second one b2a."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("checkpoints", Path, "Folder checkpoints/NAME, or .pth files.", metavar="CHECKPOINT", nargs="+")
    add("--out", Path, "Model directory to write.", required=True)
    add("--epoch", str, "Checkpoint of the folder: latest, 200, iter_5000, ... (default: latest).", metavar="EPOCH")
    add("--direction", DIRECTIONS, "Direction of a single generator whose file name does not say it.")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.reference.importing import import_reference
    from cyclegan.system.messages import Messages
    from cyclegan.system.terminal import print_result, shell_quote

    imported = import_reference(*parsed.checkpoints, out=parsed.out, epoch=parsed.epoch, direction=parsed.direction)
    messages = Messages("import")
    for name, (path, network) in imported.networks.items():
        messages.info(f"{name}: {path.name}, {network}")
    for note in imported.notes:
        messages.warning(note)
    out, direction = shell_quote(imported.path), next(iter(imported.networks))
    messages.info(f"Translate with: cyclegan translate {out} IMAGES --out FOLDER --direction {direction}")
    messages.info(f"Train it further with: cyclegan train A B --out RUN --init-from {out}")
    print_result(imported.path)
