"""Export packages for the tools of bioimage.io: Fiji, QuPath, ilastik, napari, deepImageJ.

A package is a zip with an ONNX graph and the model description 0.5, which says how values of files become the
network's and back, which sizes it takes, and whether it may be run in tiles.
"""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cyclegan._version import __version__
from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import from_tensor, pad_to_multiple, to_tensor
from cyclegan.networks import count_parameters
from cyclegan.report.run_charts import domain_names
from cyclegan.storage.model import ModelInfo, load_generator, read_info
from cyclegan.storage.run import evaluation_of, read_run_config, run_of
from cyclegan.storage.scores import read_scores
from cyclegan.storage.showcase import read_showcase
from cyclegan.system.atomic import atomic_path
from cyclegan.system.json_files import cut, shown
from cyclegan.translate.engines import psnr, require, smooth_picture
from cyclegan.translate.engines.graphs import INPUT, OPSET, OUTPUT, quiet, save_onnx, to_onnx
from cyclegan.translate.engines.with_onnxruntime import open_onnxruntime
from cyclegan.translate.tiling.network import has_instance_norm, reach_of, why_no_tiles

# Of the model description: tools read it that do not know the newest one, which has no more of what is needed here.
_FORMAT = "0.5.3"

# The ONNX file format that came with OPSET: ONNX Runtime 1.14 of 2023 reads it, which tools may still have.
_IR_VERSION = 8

# What a name in a description may have.
_NAME = re.compile(r"[^A-Za-z0-9_+\-() ]+")

# A network that reaches further is described for whole images only: a tile would be mostly border.
_MOST_REACH = 256

# Integer types whose values float32 holds exactly. Results of others are described as float32.
_SMALL_INTEGERS = ("uint8", "int8", "uint16", "int16")

# A right graph in float32 is tens of dB better, a wrong one below 20.
_LEAST_DB = 80.0

_CITATION = "Zhu et al.: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017"
_DOI = "10.1109/ICCV.2017.244"


class AnySize(nn.Module):
    """A generator that takes images of any size of at least `smallest`: mirrored at the right and below, then cropped.

    As `pad_to_multiple` does, within the graph, because a model description cannot say it.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        for dim, size in ((-2, height), (-1, width)):
            places = torch.arange((size + self.multiple - 1) // self.multiple * self.multiple)
            x = x.index_select(dim, torch.minimum(places, 2 * size - 2 - places))
        result: Tensor = self.network(x)
        return result[..., :height, :width]


def export_bioimageio(
    model: Path,
    out: Path,
    directions: Sequence[Direction],
    weights: str | None,
    precision: str,
    path: Path,
    authors: Sequence[str] | None,
    licence: str | None,
) -> tuple[list[Path], list[str]]:
    """`cyclegan.export.export_model` for bioimageio: a2b.bioimageio.zip and b2a.bioimageio.zip. path: as there."""
    if precision != "fp32":
        raise InputError(f"A package for bioimage.io is fp32, and precision is {precision}; leave it out.")
    require("onnxruntime", "onnx", "onnxscript")
    require("bioimageio.spec")
    authors, licence = _check_authors(authors), _check_licence(licence)
    files = [out / f"{direction}.bioimageio.zip" for direction in directions]
    for file in files:
        if file.exists():
            raise InputError(f"{file} already exists; remove it or choose another --out.")
    info, notes = read_info(model), []
    with atomic_path(out, merge=True) as folder:
        folder.mkdir()
        for direction, file in zip(directions, files, strict=True):
            network, _ = load_generator(model, direction, weights)
            package = _Package(network, info, direction, path, authors, licence)
            with TemporaryDirectory(dir=folder) as place:
                notes += package.write(Path(place), folder / file.name)
    return files, notes


def _check_authors(authors: Any) -> tuple[str, ...]:
    """Names of persons. Raises InputError for anything else."""
    if authors is None:
        return ()
    if isinstance(authors, str) or not isinstance(authors, Sequence):
        raise InputError(f"authors is {shown(authors)}; expected a list of names.")
    for author in authors:
        if not isinstance(author, str) or not author.strip() or not author.isprintable() or set(author) & set("/\\"):
            raise InputError(f"An author is {shown(author)}; expected the name of a person, without a slash.")
    return tuple(authors)


def _check_licence(licence: Any) -> str | None:
    """The SPDX identifier of a licence, whatever its case. Raises InputError if there is none."""
    if licence is None:
        return None
    from bioimageio.spec.generic.v0_3 import LicenseId

    known = {name.lower(): str(name) for name in get_args(LicenseId.root_model.model_fields["root"].annotation)}
    if not isinstance(licence, str) or licence.lower() not in known:
        raise InputError(f"licence is {shown(licence)}; expected an SPDX identifier, such as MIT or CC-BY-4.0.")
    return known[licence.lower()]


class _Package:
    """The package of one direction."""

    def __init__(
        self,
        network: nn.Module,
        info: ModelInfo,
        direction: Direction,
        path: Path,
        authors: Sequence[str],
        licence: str | None,
    ) -> None:
        self.network, self.info, self.direction, self.path = network, info, direction, path
        self.authors, self.licence = authors, licence
        self.source, self.target = info.formats(direction)
        self.multiple, smallest = info.model.multiple, info.model.smallest_side
        # An image must be large enough to be mirrored to a multiple.
        self.least, self.step, self.halo = max(smallest, self.multiple // 2 + 1), 1, 0
        reach = reach_of(network)
        if reach is not None and reach <= _MOST_REACH:
            # Tiles begin at multiples, so that strides fall on the same pixels.
            self.halo, self.step = -(-max(reach, 1) // self.multiple) * self.multiple, self.multiple
            self.least = 2 * self.halo + self.multiple
        run = run_of(path)
        config = read_run_config(run) if run is not None else None
        names = {key: _NAME.sub(" ", name).strip() for key, name in domain_names(config).items()}
        self.title = f"{names[direction[0]] or 'A'} to {names[direction[-1]] or 'B'}"
        self.config = config

    def write(self, place: Path, file: Path) -> list[str]:
        """Write the zip, with `place` for its parts; returns notes for the user."""
        decibels = self._write_graph(place / f"{self.direction}.onnx")
        self._write_test_tensors(place)
        has_cover = self._write_cover(place / "cover.png")
        (place / "README.md").write_text(self._readme(), encoding="utf-8")
        description = self._description(has_cover=has_cover)
        _add_digests(description, place)
        with (place / "rdf.yaml").open("w", encoding="utf-8") as text:
            yaml = require("ruyaml").YAML(typ="safe", pure=True)
            yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
            yaml.dump(description, text)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(place.iterdir()):
                archive.write(part, part.name)
        _validate(file)
        agreement = "no difference" if decibels == float("inf") else f"{decibels:.1f} dB"
        notes = [f"{self.direction}: {agreement} to torch on test pictures. {self._tiling}"]
        if not self.authors or self.licence is None:
            notes.append("Without author and licence some tools and the zoo refuse it: give --author and --licence.")
        if has_cover:
            notes.append(f"{file.name} shows an image of the run and its translation as cover.png.")
        return notes

    def _write_graph(self, path: Path) -> float:
        """Write the ONNX graph and compare it with torch: the least PSNR, in dB."""
        wrapped = AnySize(self.network, self.multiple)
        about = {"cyclegan_version": __version__, "direction": self.direction}
        graph = to_onnx(wrapped, self.source.channels, 1, "fp32")
        graph.ir_version = _IR_VERSION
        save_onnx(graph, path, about)
        engine = open_onnxruntime(path, "fp32")
        side, least = max(32, self.multiple), float("inf")
        with torch.inference_mode():
            for count, height, width in ((1, side, side), (2, side + 1, 2 * side - 3), (1, 2 * side - 1, side + 5)):
                picture = smooth_picture(self.source.channels, height, width).repeat(count, 1, 1, 1)
                exact = self.network(pad_to_multiple(picture, self.multiple, self.info.model.smallest_side))
                exact, other = exact[..., :height, :width], engine(picture)
                if not bool(torch.isfinite(exact).all()):
                    raise InputError(f"The network of {self.direction} gives NaN or infinity; use another checkpoint.")
                least = min(least, psnr(exact, other))
        if least < _LEAST_DB:
            raise InputError(
                f"The ONNX graph of {self.direction} is only within {least:.1f} dB of torch, and {_LEAST_DB:.0f} dB is "
                "expected; use another release of torch or ONNX Runtime."
            )
        return least

    def _write_test_tensors(self, place: Path) -> None:
        """A generated picture in values of files, and what the graph makes of it. No image of the user is shown."""
        side = max(64, self.least) if not self.halo else 2 * self.halo + -(-64 // self.multiple) * self.multiple
        picture = from_tensor(smooth_picture(self.source.channels, side, side + 8 * self.step)[0], self.source)
        signal = to_tensor(picture, self.source)[None]
        result = from_tensor(open_onnxruntime(place / f"{self.direction}.onnx", "fp32")(signal)[0], self.target)
        for name, array, dtype in ((INPUT, picture, self._dtypes[0]), (OUTPUT, result, self._dtypes[1])):
            np.save(place / f"{name}.npy", _nchw(array).astype(dtype))
        self.most = max(0.0, float(result.max()))

    def _write_cover(self, path: Path) -> bool:
        """Input and translation of a typical image of the run side by side, if the run has shown one."""
        examples = read_showcase(evaluation_of(self.path)).of(self.direction)
        for example in [example for example in examples if not example.is_extreme] or examples:
            pictures = [example.picture("input"), example.picture("output")]
            if all(picture is not None for picture in pictures):
                cover = Image.new("RGB", (512, 256), "white")
                for index, picture in enumerate(pictures):
                    assert picture is not None
                    side = min(picture.size)
                    square = picture.crop((0, 0, side, side)).resize((256, 256), Image.Resampling.LANCZOS)
                    cover.paste(square, (256 * index, 0))
                cover.save(path)
                return True
        return False

    # ---- the description

    @property
    def _dtypes(self) -> tuple[str, str]:
        """Types of input and output values. float16 is not in the specification."""
        source = "float32" if self.source.dtype == "float16" else self.source.dtype
        kept = (*_SMALL_INTEGERS, "float32", "float64")
        return source, self.target.dtype if self.target.dtype in kept else "float32"

    @property
    def _tiling(self) -> str:
        if self.halo:
            return (
                f"It can be run in tiles with {self.halo} pixels around each; sides have at least {self.least} pixels, "
                f"in steps of {self.step}."
            )
        if has_instance_norm(self.network):
            why = "its norm takes statistics of the whole image"
        else:
            why = why_no_tiles(self.network) or f"a pixel depends on more than {_MOST_REACH} pixels around it"
        return f"Translate whole images, not tiles: {why}."

    def _description(self, *, has_cover: bool) -> dict[str, Any]:
        source_dtype, target_dtype = self._dtypes
        kind = [name for name in ("resnet", "unet") if name == self.info.model.generator]
        details = {
            "architecture_type": self.info.model.generator[:32],
            "architecture_description": self.info.model.generator_summary,
            "model_parameter_count": count_parameters(self.network),
            "task": "image-to-image translation",
            # Other runtimes round some values the other way.
            "reproducibility_tolerance": [
                {
                    "absolute_tolerance": min(self._level, 0.01 * self.most),
                    "relative_tolerance": 1e-3,
                    "mismatched_elements_per_million": 1000,
                }
            ],
            "bias_risks_limitations": {
                "known_biases": "It shows what the two folders of its training images have in common, and no more.",
                "risks": "It can add, remove or recolour things and still look right: do not measure on translations.",
                "limitations": self._tiling,
            },
        }
        return {
            "type": "model",
            "format_version": _FORMAT,
            "name": self.title[:50] if len(self.title) >= 5 else f"CycleGAN {self.title}",
            "description": f"Translates {self.title[:200]}: {self.source} to {self.target}. A CycleGAN, learned from "
            f"unpaired images. {self._tiling}",
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": f"1.0.{self.info.step}",
            "authors": [{"name": name} for name in self.authors],
            "license": self.licence,
            "cite": [{"text": _CITATION, "doi": _DOI}],
            "documentation": "README.md",
            "covers": ["cover.png"] if has_cover else [],
            "tags": ["cyclegan", "image-to-image-translation", "unpaired", "2d", "pytorch", *kind],
            "inputs": [
                {
                    "id": INPUT,
                    "description": f"An image, {self.source}",
                    "axes": self._axes(self.source, is_input=True),
                    "data": {"type": source_dtype, "range": [self.source.low, self.source.high]},
                    "preprocessing": _to_network(self.source),
                    "test_tensor": {"source": f"{INPUT}.npy"},
                }
            ],
            "outputs": [
                {
                    "id": OUTPUT,
                    "description": f"Its translation, {self.target}",
                    "axes": self._axes(self.target, is_input=False),
                    "data": {"type": target_dtype, "range": [self.target.low, self.target.high]},
                    "postprocessing": _from_network(self.target, target_dtype),
                    "test_tensor": {"source": f"{OUTPUT}.npy"},
                }
            ],
            "weights": {"onnx": {"source": f"{self.direction}.onnx", "opset_version": OPSET}},
            "config": {"bioimageio": details, "cyclegan": {"version": __version__, "step": self.info.step}},
        }

    @property
    def _level(self) -> float:
        """The smallest difference between two values that can be told apart."""
        if np.dtype(self._dtypes[1]).kind in "iu":
            return 1.0
        return (self.target.high - self.target.low) * 1e-3

    def _axes(self, image: ImageFormat, *, is_input: bool) -> list[dict[str, Any]]:
        sides: list[dict[str, Any]] = []
        for side in ("y", "x"):
            axis: dict[str, Any] = {"type": "space", "id": side}
            if is_input:
                axis |= {"size": {"min": self.least, "step": self.step}, "concatenable": bool(self.halo)}
                axis["description"] = "Tiles need the halo of the output." if self.halo else "Whole images, no tiles."
            else:
                axis |= {"size": {"tensor_id": INPUT, "axis_id": side}} | ({"halo": self.halo} if self.halo else {})
            sides.append(axis)
        return [{"type": "batch"}, {"type": "channel", "channel_names": _channel_names(image)}, *sides]

    def _readme(self) -> str:
        """The documentation, made from what is on disk, without names of files."""
        info, lines = self.info, [f"# {self.title}", ""]
        lines += [
            f"An image translator, learned from two folders of images without pairs (CycleGAN, {_CITATION}). Made with "
            f"`cyclegan` {__version__}: {info.model.generator_summary}, {count_parameters(self.network):,} parameters, "
            f"norm {info.model.norm}" + (f", {info.step:,} steps." if info.step else "."),
            "",
            f"Input: {self.source}. Output: {self.target}, of the same size. Give values of files as they are; scaling "
            "is part of the description.",
            "",
            self._tiling
            + (
                " Within that distance of the image's border, results differ slightly from those of `cyclegan "
                "translate`, because the border is mirrored before the network, not inside it."
                if self.halo
                else ""
            ),
            "",
            "It learned from unpaired images, so nothing ties a pixel of the output to the truth: it can add, remove "
            "or recolour things and still look right. Do not measure or diagnose on translations.",
            "",
            "## Validation",
            "",
            "`test_model` of `bioimageio.core` compares the package with its test tensors, which show a generated "
            "picture. `cyclegan evaluate` scores the model on two folders of test images of your own.",
            "",
            *self._score_rows(),
        ]
        if self.config is not None:
            lines += ["## Training", "", f"Preset {self.config.preset}, batch size {self.config.batch_size}."]
        return "\n".join(lines).rstrip() + "\n"

    def _score_rows(self) -> list[str]:
        """Scores of this step on test images, as a table."""
        place = evaluation_of(self.path)
        try:
            scores = read_scores(place) if (place / "scores.json").is_file() else None
        except InputError:
            return []
        if scores is None or scores.step != self.info.step or self.direction not in scores.directions:
            return []
        of = scores.directions[self.direction]
        rows = [f"| {scores.title(name)} | {metric.show(score.value.value)} |" for name, metric, score in of.rows]
        return ["Scores on test images:", "", "| score | translations |", "|---|---|", *rows, ""]


def _add_digests(value: Any, place: Path) -> None:
    """Add the SHA-256 of every file that a description names."""
    if isinstance(value, dict) and "source" in value:
        value["sha256"] = hashlib.sha256((place / value["source"]).read_bytes()).hexdigest()
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _add_digests(item, place)


def _validate(file: Path) -> None:
    """Raises InputError unless bioimageio.spec accepts a package and its files. Needs no network."""
    from bioimageio.spec import InvalidDescr, ValidationContext, load_description

    with quiet(), ValidationContext(perform_io_checks=True, log_warnings=False, progressbar=False):
        described = load_description(file)
    if isinstance(described, InvalidDescr):
        reason = described.get_reason() or "it does not say why"
        if "serializer" in reason:
            raise InputError(
                f"bioimageio.spec {version('bioimageio.spec')} does not work with pydantic {version('pydantic')}; run "
                "pip install -U bioimageio.spec, or pip install 'pydantic<2.14'."
            )
        reason = cut(" ".join(reason.split()), 300)
        raise InputError(f"bioimageio.spec {version('bioimageio.spec')} refuses the package: {reason}")


def _nchw(array: Array) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose(2, 0, 1)[None])


def _channel_names(image: ImageFormat) -> list[str]:
    colours = {1: ["grey"], 3: ["red", "green", "blue"]}
    plain = image.channels - image.last_is_alpha
    names = colours.get(plain) if image.dtype == "uint8" else None
    return [*(names or [f"channel{i + 1}" for i in range(plain)]), *(["alpha"] if image.last_is_alpha else [])]


def _scale(gain: float, offset: float) -> list[dict[str, Any]]:
    """A linear step, which the specification forbids where it does nothing."""
    return [] if (gain, offset) == (1.0, 0.0) else [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": offset}}]


def _cast(dtype: str) -> dict[str, Any]:
    return {"id": "ensure_dtype", "kwargs": {"dtype": dtype}}


def _to_network(image: ImageFormat) -> list[dict[str, Any]]:
    """Values of files -> [-1, 1], clipped, as `to_tensor` does."""
    gain = 2 / (image.high - image.low)
    clip = {"id": "clip", "kwargs": {"min": -1.0, "max": 1.0}}
    return [_cast("float32"), *_scale(gain, -1 - image.low * gain), clip, _cast("float32")]


def _from_network(image: ImageFormat, dtype: str) -> list[dict[str, Any]]:
    """[-1, 1] -> values of files, rounded to integers, as `from_tensor` does.

    Casting cuts off decimals, so half a level is added before. Negative numbers would be cut off upwards, so they are
    cast above zero and moved down afterwards.
    """
    low, high, gain = image.low, image.high, (image.high - image.low) / 2
    down, half = 0.0, 0.0
    if dtype in _SMALL_INTEGERS:
        down, half = float(min(0, np.floor(low))), 0.5
    steps = _scale(gain, low + gain - down + half)
    steps.append({"id": "clip", "kwargs": {"min": low - down + half, "max": high - down + half}})
    if down:
        steps += [_cast("int32"), *_scale(1.0, down)]
    return [*steps, _cast(dtype)]
