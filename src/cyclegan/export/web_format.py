"""Export a web page that translates pictures in the browser: static files for any web server, in a new folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import ImageColor
from torch import nn

from cyclegan._version import __version__
from cyclegan.config import Direction
from cyclegan.errors import InputError, UnreadableError
from cyclegan.export.graph_formats import export_graphs
from cyclegan.export.web_runtime import LICENCE, NAME, VERSION, read_runtime
from cyclegan.images.codecs import read_as
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.filetypes.pillow import to_pillow
from cyclegan.images.formats import ImageFormat
from cyclegan.images.pages import is_folder
from cyclegan.images.tensors import from_tensor, to_tensor
from cyclegan.networks.layers import LayerNorm
from cyclegan.networks.protocol import Generator
from cyclegan.report.run_charts import domain_names
from cyclegan.storage.model import ModelInfo, load_generator, read_info
from cyclegan.storage.run import read_run_config, run_of
from cyclegan.system.atomic import atomic_path, check_free
from cyclegan.system.json_files import shown
from cyclegan.system.terminal import shell_quote
from cyclegan.translate.engines import smooth_picture
from cyclegan.translate.engines.exported import open_file
from cyclegan.translate.tiling.budget import untiled_bytes
from cyclegan.translate.tiling.network import reach_of

# The files of the page, as they are.
_PAGE = Path(__file__).parent / "web"

# Memory of WebAssembly as a multiple of what torch needs for the same picture, measured in Chromium: a layer norm over
# channels transposes its input there.
_MEMORY_RATIO, _MEMORY_RATIO_LAYER = 1.5, 2.3

# Least agreement with the stored result of the test picture, in dB with a peak of 255 levels. Integers are computed
# differently on different processors.
_LEAST_DB = {"fp32": 40.0, "fp16": 40.0, "int8": 25.0}

_NUM_EXAMPLES = 4
_LONGEST_TEXT = 300


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """What a page shows and is made of.

    title: of the page; default: the names of the domains. words: what pictures of domains A and B are called; default:
    the names of the training folders. credits: a line at the bottom, such as a licence. examples: a folder of images of
    the input domain, or one with testA and testB, of which a few become examples on the page. runtime: a folder or a
    tarball of onnxruntime-web; default: from the cache, or from the npm registry.
    """

    title: str | None = None
    words: Sequence[str] | None = None
    credits: str | None = None
    examples: Path | None = None
    runtime: Path | None = None

    def __post_init__(self) -> None:
        words = self.words
        if words is not None and (isinstance(words, str) or len(words) != 2 or not all(map(_is_text, words))):
            raise InputError(f"words is {shown(words)}; expected two names, of domains A and B.")
        for name in ("title", "credits"):
            text = getattr(self, name)
            if text is not None and not _is_text(text):
                raise InputError(f"{name} is {shown(text)}; expected at most {_LONGEST_TEXT} characters on one line.")


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text.strip()) <= _LONGEST_TEXT and text.isprintable()


def export_web(
    model: Path,
    out: Path,
    directions: Sequence[Direction],
    weights: str | None,
    precision: str,
    path: Path,
    calibrate: Path | None,
    say: Callable[[str], None],
    options: WebOptions,
) -> tuple[list[Path], list[str]]:
    """`cyclegan.export.export_model` for format web. path: what the model belongs to.

    Files: index.html and what it loads, a graph for each direction, config.json as of other exports, site.json for the
    page, and ort/ with the runtime.
    """
    info = read_info(model)
    for domain, image_format in (("A", info.a), ("B", info.b)):
        _check_format(domain, image_format)
    check_free(out)
    examples = _list_examples(options.examples, directions)
    runtime = read_runtime(options.runtime)
    with atomic_path(out) as folder:
        folder.mkdir()
        _, notes = export_graphs(model, folder, "web", directions, weights, precision, path, calibrate, say)
        for file in sorted(_PAGE.iterdir()):
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "ort").mkdir()
        for name, content in {**runtime, "LICENSE.txt": LICENCE.encode()}.items():
            (folder / "ort" / name).write_bytes(content)
        site = {
            **_words(path, options, directions),
            "version": __version__,
            "runtime": f"{NAME} {VERSION}",
            "least_decibels": _LEAST_DB[precision],
            # Integers are for processors.
            "webgpu": precision != "int8",
            "multiple": info.model.multiple,
            "smallest": info.model.smallest_side,
            "directions": {
                direction: {
                    **_describe(folder, model, info, direction, weights, precision),
                    "examples": _write_examples(folder, direction, examples[direction], info),
                }
                for direction in directions
            },
        }
        (folder / "site.json").write_text(json.dumps(site, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        files = [out / file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    whole = [direction for direction, described in site["directions"].items() if described["reach"] is None]
    if whole:
        notes.append(
            f"{' and '.join(whole)}: each pixel may depend on the whole image, so the page has no tiles: it shrinks "
            "pictures that are too large for the memory of a browser."
        )
    notes.append(f"To see it: python3 -m http.server --directory {shell_quote(out)}, then http://localhost:8000")
    return files, notes


def _check_format(domain: str, image_format: ImageFormat) -> None:
    """Raises InputError for images that a browser does not show."""
    if not image_format.is_picture or (image_format.channels == 4 and not image_format.last_is_alpha):
        kind = str(image_format)
    elif image_format.bands is not None or image_format.nodata_of(None) is not None:
        kind = f"{image_format} with chosen bands or a number for holes"
    else:
        return
    raise InputError(
        f"Domain {domain} is {kind}, and a browser shows 8-bit grey, RGB and RGBA; export with --format onnx instead."
    )


def _describe(
    folder: Path, model: Path, info: ModelInfo, direction: Direction, weights: str | None, precision: str
) -> dict[str, Any]:
    """One direction as the page needs it. Writes its test picture and the result, as bytes of levels (H, W, C)."""
    network, _ = load_generator(model, direction, weights)
    source, target = info.formats(direction)
    name, test = f"{direction}.onnx", f"{direction}.test.bin"
    side = max(48, info.model.multiple, info.model.smallest_side)
    picture = from_tensor(smooth_picture(source.channels, side, seed=7)[0], source)
    with torch.inference_mode():
        result = from_tensor(open_file(folder / name, "web", precision)(to_tensor(picture, source)[None])[0], target)
    (folder / test).write_bytes(picture.tobytes() + result.tobytes())
    return {
        "file": name,
        "bytes": (folder / name).stat().st_size,
        "test": {"file": test, "side": side},
        "input": _side(source),
        "output": _side(target),
        # Pixels around a tile that its result depends on; null if it may be the whole image.
        "reach": reach_of(network),
        "bytes_per_pixel": _bytes_per_pixel(network),
    }


def _side(image_format: ImageFormat) -> dict[str, Any]:
    background = image_format.background
    return {
        "channels": image_format.channels,
        "low": image_format.low,
        "high": image_format.high,
        "background": None if background is None else ImageColor.getcolor(background, "RGB"),
    }


def _bytes_per_pixel(network: nn.Module) -> int:
    """Memory of WebAssembly for each pixel of a picture."""
    layered = any(isinstance(module, LayerNorm) for module in network.modules())
    if isinstance(network, Generator) and network.tiling is not None:
        needed = untiled_bytes(network, 1024, 1024)
    else:  # of a class that does not say: its widest layer at full resolution
        needed = (
            16
            * 2**20
            * max(
                module.out_channels
                for module in network.modules()
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            )
        )
    return round(needed / 2**20 * (_MEMORY_RATIO_LAYER if layered else _MEMORY_RATIO))


def _words(path: Path, options: WebOptions, directions: Sequence[Direction]) -> dict[str, Any]:
    """Title, names of the domains and credits."""
    run = run_of(path)
    names = domain_names(None if run is None else read_run_config(run))
    a, b = options.words or (names["a"].removesuffix(" (A)"), names["b"].removesuffix(" (B)"))
    start, end = (a, b) if directions[0] == "a2b" else (b, a)
    title = f"{start} to {end}" if len(directions) == 1 else f"{a} and {b}"
    return {"title": options.title or title[:1].upper() + title[1:], "a": a, "b": b, "credits": options.credits or ""}


def _list_examples(folder: Path | None, directions: Sequence[Direction]) -> dict[Direction, list[Path]]:
    """A few images of the input domain of each direction."""
    if folder is None:
        return {direction: [] for direction in directions}
    if not is_folder(folder):
        raise InputError(f"There is no folder {folder}; expected images for --examples.")
    domains: dict[Direction, Path] = {"a2b": folder / "testA", "b2a": folder / "testB"}
    if not any(place.is_dir() for place in domains.values()):
        if len(directions) == 2:
            raise InputError(
                f"{folder} holds images of one domain, and two directions were asked for; "
                "give --direction, or a folder that holds testA and testB."
            )
        domains = dict.fromkeys(directions, folder)
    return {
        direction: evenly_spaced(list_images(domains[direction]), _NUM_EXAMPLES)
        if domains[direction].is_dir() or domains[direction] == folder
        else []
        for direction in directions
    }


def _write_examples(folder: Path, direction: Direction, paths: list[Path], info: ModelInfo) -> list[str]:
    """Write examples as PNG without the metadata of their files. Returns their names."""
    source, names = info.formats(direction)[0], list[str]()
    for path in paths:
        try:
            picture = to_pillow(read_as(path, source))
        except UnreadableError as error:
            raise InputError(f"{error} Remove it from the folder of --examples.") from None
        names.append(f"examples/{direction}-{len(names) + 1}.png")
        (folder / "examples").mkdir(exist_ok=True)
        picture.save(folder / names[-1], optimize=True)
    return names
