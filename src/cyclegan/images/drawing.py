"""Draw images for display: grids, and enlarged pixels."""

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import from_tensor

# Side of the squares that show holes, in pixels.
_SQUARE = 4


def grid(rows: list[list[Tensor]], labels: list[str]) -> Image.Image:
    """Rows of (C, H, W) images in [-1, 1] as one picture, each row below its label; extra channels are left out."""
    gap, head = 4, 16
    height = sum(head + gap + max(image.shape[1] for image in row) for row in rows)
    width = max(sum(image.shape[2] + gap for image in row) for row in rows) - gap
    sheet = Image.new("RGB", (max(width, 96), height - gap), "white")
    draw = ImageDraw.Draw(sheet)
    y = 0
    for row, label in zip(rows, labels, strict=True):
        draw.text((2, y + 2), label, fill="black")
        y += head
        x = 0
        for image in row:
            sheet.paste(displayable(image), (x, y))
            x += image.shape[2] + gap
        y += max(image.shape[1] for image in row) + gap
    return sheet


def displayable(image: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] as an 8-bit RGB picture: the first three channels, or the first one as grey."""
    channels = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    return Image.fromarray(from_tensor(channels, ImageFormat()))


def upscale(image: Tensor, factor: int) -> Tensor:
    """Repeat every pixel of (C, H, W) `factor` times in both directions, to show small images."""
    return image.repeat_interleave(factor, -1).repeat_interleave(factor, -2) if factor > 1 else image


def mark_holes(image: Tensor, mask: Tensor | None) -> Tensor:
    """(C, H, W) with a grey checkerboard in its holes, to be shown. mask: (H, W), bool, False in holes, or None."""
    if mask is None:
        return image
    rows, columns = (torch.arange(side) // _SQUARE for side in image.shape[1:])
    board = torch.where((rows[:, None] + columns) % 2 == 0, 0.3, 0.6)
    return torch.where(mask, image, board)
