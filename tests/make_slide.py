"""Small whole slides for tests: blobs of stained tissue on glass, in a tiled pyramid as scanners write them."""

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFilter

GLASS = (243, 242, 244)


def draw_tissue(width, height, *, seed=0, tint=(196, 120, 178), share=0.35, pen=False, border=0):
    """(H, W, 3) and a mask of the tissue, (H, W): blobs with darker nuclei, on glass with a little noise."""
    rng = np.random.default_rng(seed)
    tissue = Image.new("L", (width, height))
    draw = ImageDraw.Draw(tissue)
    for _ in range(4):
        radius = int(min(width, height) * (share / 4) ** 0.5 * rng.uniform(0.6, 1.0))
        x, y = rng.integers(radius, width - radius), rng.integers(radius, height - radius)
        draw.ellipse((x - radius, y - radius, x + radius, y + int(radius * 0.8)), fill=255)
    mask = np.asarray(tissue) > 0
    nuclei = Image.new("L", (width, height))
    draw = ImageDraw.Draw(nuclei)
    for _ in range(width * height // 400):
        x, y = rng.integers(width), rng.integers(height)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=255)
    stained = np.asarray(nuclei.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    colour = np.asarray(tint, np.float32) * (1 - stained) + np.asarray((86, 58, 128), np.float32) * stained
    values = np.where(mask[..., None], colour, np.asarray(GLASS, np.float32)) + rng.normal(0, 2, (height, width, 1))
    values = values.clip(0, 255).astype(np.uint8)
    if pen:
        marked = Image.fromarray(values)
        ImageDraw.Draw(marked).line((width // 8, height // 8, width // 8, height * 7 // 8), (20, 90, 200), width // 16)
        values = np.array(marked)
    if border:
        values[:border] = values[:, :border] = 12
    return values, mask


def write_slide(path, values, *, mpp=0.25, levels=(4, 16), tile=256, profile=None):
    """Write an Aperio-like slide (.svs), or a generic tiled pyramid under another suffix; JPEG of quality 95."""
    height, width = values.shape[:2]
    is_aperio = path.suffix == ".svs"
    about = f"Aperio Image Library v12.0.0\n{width}x{height} (256x256) JPEG/RGB Q=95|AppMag = 40|MPP = {mpp}"
    common = {"compression": "jpeg", "photometric": "rgb", "subsampling": (1, 1), "metadata": None}
    common["compressionargs"] = {"level": 95}
    tiled = {**common, "tile": (tile, tile)}
    microns = {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        more = {"iccprofile": profile} if profile else {}
        writer.write(
            values, description=about if is_aperio else None, **tiled, **more, **({} if is_aperio else microns)
        )
        if is_aperio:
            small = np.asarray(Image.fromarray(values).resize((64, 64 * height // width)))
            writer.write(small, rowsperstrip=16, description=about, **common)
        for factor in levels:
            size = (width // factor, height // factor)
            reduced = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
            writer.write(reduced, subfiletype=0 if is_aperio else 1, description=about if is_aperio else None, **tiled)
    return path
