"""The datasets and pretrained generators of the CycleGAN authors, listed in catalogue.toml."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from cyclegan.errors import InputError

# The authors' server. A mirror has the same two folders.
HOME = "http://efrosgans.eecs.berkeley.edu/cyclegan"


@dataclass(frozen=True)
class Entry:
    """One file of the authors' server: a zip with two folders of images, or a generator in the format of PyTorch.

    place: its path on the server. a, b: what the domains show; of a generator, its input and its output. source: whose
    images they are. num_bytes, sha256: of the file, as published by tensorflow/datasets; None if unknown.
    """

    name: str
    place: str
    a: str
    b: str
    source: str = ""
    num_bytes: int | None = None
    sha256: str | None = None


def _read() -> tuple[dict[str, Entry], dict[str, Entry]]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    datasets = {name: Entry(name, f"datasets/{name}.zip", **row) for name, row in table["datasets"].items()}
    models = {name: Entry(name, f"pretrained_models/{name}.pth", **row) for name, row in table["models"].items()}
    return datasets, models


STANDARD, MODELS = _read()

CITYSCAPES = """cityscapes cannot be downloaded here, because its licence forbids distributing it.
It may be used for non-commercial purposes (research, teaching, publications, experiments), and work that uses it cites
the Cityscapes Dataset. Neither it nor a changed version of it may be distributed; models trained on it may.
To get it, register at https://www.cityscapes-dataset.com and agree to its terms, then download
leftImg8bit_trainvaltest.zip (photos) and gtFine_trainvaltest.zip (label maps) and unzip both. Then make four folders:
  mkdir -p data/cityscapes/trainA data/cityscapes/trainB data/cityscapes/testA data/cityscapes/testB
  cp leftImg8bit/train/*/*.png data/cityscapes/trainA
  cp leftImg8bit/val/*/*.png data/cityscapes/testA
  cp gtFine/train/*/*_color.png data/cityscapes/trainB
  cp gtFine/val/*/*_color.png data/cityscapes/testB
The paper uses these images, scaled to 256x256. To download models that were trained on them:
  cyclegan download cityscapes_photo2label    and    cyclegan download cityscapes_label2photo"""


def unknown(name: str, known: tuple[str, ...], kind: str = "dataset") -> InputError:
    """The error for a name that is not in `known`, with the nearest one."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return InputError(f"There is no {kind} {name!r}; {hint}`cyclegan download --list` shows all names.")
