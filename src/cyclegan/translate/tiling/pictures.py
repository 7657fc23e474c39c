"""Run images in the type of their file through a tiled network, by region."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.config import ModelConfig
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import ArraySource, Box, ImageSource
from cyclegan.images.tensors import from_tensor, to_tensor
from cyclegan.translate.self_ensemble import UNCHANGED, View, mean_of
from cyclegan.translate.tiling.boxes import tile_boxes
from cyclegan.translate.tiling.budget import available_bytes, choose_plan
from cyclegan.translate.tiling.network import TiledNetwork, why_no_tiles
from cyclegan.translate.tiling.planes import Picture, Plane

# Smallest side of a tile in pixels: four at a quarter of the resolution.
SMALLEST_TILE = 16

# The default side: little is computed twice, and memory is small.
TILE = 512

# Approximate statistics come from a smaller picture of about this side in pixels: the whole image reduced, or crops of
# CROP_PIXELS at full resolution, side by side.
SAMPLE_PIXELS = 2048
CROP_PIXELS = 256


def check_tile(tile: int, network: nn.Module) -> None:
    """Raises InputError if a tile is too small, or the network cannot be run in tiles."""
    if tile < SMALLEST_TILE:
        raise InputError(f"tile is {tile}; expected at least {SMALLEST_TILE} pixels.")
    if (reason := why_no_tiles(network)) is not None:
        raise InputError(
            f"A {type(network).__name__} cannot be run in tiles, because {reason}; translate the whole image, with "
            "PyTorch on a CPU or a GPU."
        )


def picture_of(
    source: ImageSource, image_format: ImageFormat, network: nn.Module, model: ModelConfig, view: View = UNCHANGED
) -> Picture:
    """The network's input for a view of an image, mirrored to a size that it takes."""
    weight = next(network.parameters())

    def read(box: Box) -> Tensor:
        return to_tensor(source.read(box), image_format)[None].to(weight.device, weight.dtype)

    height, width = view.size(source.height, source.width)
    read_view = view.reader(read, source.height, source.width)
    return Picture(read_view, height, width, multiple=model.multiple, smallest=model.smallest_side)


def mean_plane(outputs: Sequence[tuple[View, Plane]], height: int, width: int) -> Plane:
    """The mean of the translations of views of one image of height x width, to be read by region."""
    return _Mean(outputs, height, width) if len(outputs) > 1 else outputs[0][1]


class _Mean:
    def __init__(self, outputs: Sequence[tuple[View, Plane]], height: int, width: int) -> None:
        self._outputs = outputs
        self.height, self.width = height, width

    def read(self, box: Box) -> Tensor:
        return mean_of(
            view.turn_back(plane.read(view.box(box, self.height, self.width))).float() for view, plane in self._outputs
        )


def output_rows(
    output: Plane,
    height: int,
    width: int,
    side: int,
    image_format: ImageFormat,
    *,
    check: Callable[[Tensor], None],
    first: int = 0,
) -> Iterator[Array]:
    """The result in rows of tiles from row `first` on, (rows, width, C) each, in its file's type.

    check: called with each tile before it is rounded; it raises an error for one that is no result.
    """
    with torch.inference_mode():
        for top in range(first * side, height, side):
            bottom = min(top + side, height)
            # Allocated at the first tile, which has the channels.
            row: Array | None = None
            for box in tile_boxes(bottom - top, width, side):
                tile = output.read(Box(top, bottom, box.left, box.right))
                result = tile[0].float().cpu()
                check(result)
                values = from_tensor(result, image_format)
                if row is None:
                    row = np.empty((bottom - top, width, values.shape[2]), values.dtype)
                row[:, box.left : box.right] = values
            assert row is not None
            yield row


def translate_array(
    network: nn.Module,
    array: Array,
    model: ModelConfig,
    source: ImageFormat,
    target: ImageFormat,
    tile: int,
    *,
    check: Callable[[Tensor], None],
    views: Sequence[View] = (UNCHANGED,),
) -> Array:
    """Translate an array (H, W, C) in tiles: as without tiles, to 1e-4 of [-1, 1] before rounding.

    views: whose translations are averaged. check: as in `output_rows`. Raises InputError if it does not fit into
    memory, before any work.
    """
    check_tile(tile, network)
    height, width = array.shape[:2]
    device = next(network.parameters()).device
    result = np.empty((height, width, target.channels), np.dtype(target.dtype))
    held = result.nbytes if device.type == "cpu" else 0
    available = available_bytes(device)
    plan = choose_plan(
        network, height, width, tile, available=available, is_given=False, held=held, num_views=len(views)
    )
    pictures = [picture_of(ArraySource(array), source, network, model, view) for view in views]
    outputs = [TiledNetwork(network, picture, plan).output() for picture in pictures]
    output = mean_plane(list(zip(views, outputs, strict=True)), height, width)
    top = 0
    for row in output_rows(output, height, width, tile, target, check=check):
        result[top : top + len(row)] = row
        top += len(row)
    return result


def sample_size(height: int, width: int, kind: str) -> tuple[int, int]:
    """Height and width of the result of `sample`."""
    if kind == "reduced":
        factor = _factor(height, width)
        return height // factor, width // factor
    return min(height, SAMPLE_PIXELS), min(width, SAMPLE_PIXELS)


def sample(source: ImageSource, kind: str) -> Array:
    """A smaller picture that represents a large one: `reduced` by means over squares, or `crops` from all over it.

    (h, w, C), float32 if reduced; the sides are about SAMPLE_PIXELS, or those of the image if it is smaller.
    """
    if kind == "crops":
        # From border to border at equal distances, side by side.
        rows, columns = _spans(source.height), _spans(source.width)
        return np.concatenate([np.concatenate([source.read(Box(*y, *x)) for x in columns], axis=1) for y in rows])
    assert kind == "reduced", kind
    factor = _factor(source.height, source.width)
    if factor == 1:
        return source.read(Box(0, source.height, 0, source.width))
    bands: list[Array] = []
    band = max(1, 256 // factor) * factor
    for top in range(0, source.height // factor * factor, band):
        bottom = min(top + band, source.height // factor * factor)
        values = source.read(Box(top, bottom, 0, source.width // factor * factor)).astype(np.float32)
        planes = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
        bands.append(F.avg_pool2d(planes, factor).numpy().transpose(1, 2, 0))
    return np.concatenate(bands)


def _factor(height: int, width: int) -> int:
    return -(-min(height, width) // SAMPLE_PIXELS)


def _spans(length: int) -> list[tuple[int, int]]:
    """Begin and end of crops along a side; the whole side if it is short."""
    if length <= SAMPLE_PIXELS:
        return [(0, length)]
    count = SAMPLE_PIXELS // CROP_PIXELS
    starts = [round((length - CROP_PIXELS) * i / (count - 1)) for i in range(count)]
    return [(start, start + CROP_PIXELS) for start in starts]
