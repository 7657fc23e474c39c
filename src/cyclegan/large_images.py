"""Files of any size: translated in tiles, and what is done is kept on disk, so that a stopped command goes on."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.config import InputError
from cyclegan.file_list import FileList
from cyclegan.files import lock, write_bytes
from cyclegan.headers import any_size, image_size, read_sizes
from cyclegan.images import Array, ImageFormat, UnreadableError, read_as, write_image
from cyclegan.tiff_regions import TiffSource, encode_rows, tile_side, write_tiff
from cyclegan.tiling.budget import available_bytes, choose_plan, tiled_bytes, untiled_bytes
from cyclegan.tiling.network import Plan, State, TiledNetwork, can_tile, has_instance_norm
from cyclegan.tiling.pictures import (
    TILE,
    ArraySource,
    Source,
    approximate_statistics,
    check_tile,
    output_rows,
    picture_of,
    sample_size,
)
from cyclegan.translate import Translator

StatisticsKind = Literal["exact", "crops", "reduced"]

# What is known of an image is written down at most so often, since a large activation takes seconds.
SAVE_SECONDS = 120.0

# Is told what is being done and the share that is done, 0 to 1.
OnProgress = Callable[[str, float], None]


@dataclass
class LargeResult:
    """notes: what a user should know, such as that work of an earlier call was taken up."""

    notes: list[str] = field(default_factory=list)


def needs_tiles(translator: Translator, path: Path, *, batch_size: int = 1) -> bool:
    """Whether an image cannot be translated as a whole in the memory that is available. Reads its header only."""
    return bool(find_large(translator, FileList(Path(), [str(path)]), batch_size=batch_size).any())


def find_large(translator: Translator, files: FileList, *, batch_size: int = 1) -> NDArray[np.bool_]:
    """`needs_tiles` of each file, (N,). A file whose header cannot be read is not large."""
    is_large = np.zeros(len(files), bool)
    if not len(files) or translator.engine.original is None or not can_tile(translator.original):
        return is_large
    available = available_bytes(translator.device)  # once: to ask takes as long as to look at an image
    if available is None:
        return is_large

    @cache
    def fits(height: int, width: int) -> bool:
        needed = batch_size * untiled_bytes(translator.original, height, width) + _held(translator, height, width)
        return needed <= available

    for index, size in enumerate(read_sizes(files)):
        is_large[index] = size is not None and not fits(*size)
    return is_large


def translate_large(
    translator: Translator,
    source: Path,
    target: Path,
    *,
    tile: int = TILE,
    statistics: StatisticsKind = "exact",
    on_progress: OnProgress = lambda _what, _share: None,
    save_seconds: float = SAVE_SECONDS,
) -> LargeResult:
    """Translate a file in tiles of `tile` pixels. The result has its size.

    statistics: exact, those of the whole image, so that the result is what it would be without tiles; or approximate
    and faster with less memory: those of full-resolution crops, or of a reduced image.
    A TIFF is read by region, and a TIFF is written as a tiled BigTIFF with the place on the earth of the input. What is
    done of it is kept in a hidden folder beside it, and the same call goes on after the last row of tiles.
    Raises InputError before any work if it does not fit into memory, UnreadableError if the file is damaged.
    """
    check_tile(tile, translator.original)
    to_tiff = target.suffix.lower() in (".tif", ".tiff")
    if to_tiff:
        tile = max(tile // 16 * 16, 16)  # TIFF tiles have sides of multiples of 16
    if not has_instance_norm(translator.original):
        statistics = "exact"  # there are none to gather

    with contextlib.ExitStack() as stack:
        reader: Source
        tags = []
        by_region = TiffSource.open(source, translator.source)
        if by_region is not None:
            stack.callback(by_region.close)
            reader, tags, decoded = by_region, by_region.geo_tags(), 0
        else:
            size = image_size(source)
            decoded = 0 if size is None else size[0] * size[1] * _pixel_bytes(translator.source)
            _check_memory(translator, source, size, tile, statistics, decoded, to_tiff=to_tiff)
            with any_size():
                reader = ArraySource(read_as(source, translator.source, translator.target))
            decoded = 0  # no longer part of what is available
        plan = _check_memory(
            translator, source, (reader.height, reader.width), tile, statistics, decoded, to_tiff=to_tiff
        )
        assert plan is not None
        job = _Job(translator, source, reader, plan, statistics, on_progress, save_seconds)
        if not to_tiff:
            rows = job.rows(None, first=0)
            write_image(target, np.concatenate(list(rows)))
            return LargeResult()
        notes: list[str] = []
        room = _room(translator, reader.height, reader.width, tile, decoded, to_tiff=to_tiff)

        def fits(plan: Plan) -> bool:
            return room is None or tiled_bytes(translator.original, reader.height, reader.width, plan) <= room

        with _Partial.open(target, job.key(), notes) as partial:
            job.plan = partial.plan(plan, notes, fits)
            count = -(-reader.height // tile)
            if partial.num_rows > 0:
                notes.append(f"{target.name}: {partial.num_rows} of {count} rows of tiles were done before.")
            side = tile_side(tile)
            try:
                if partial.num_rows < count:
                    for row in job.rows(partial, first=partial.num_rows):
                        partial.append(encode_rows(row, side))
            except (InputError, UnreadableError) as error:
                if not isinstance(error.__cause__, OSError):  # the file is bad, so that there is nothing to go on with
                    partial.remove()
                raise
            on_progress("writing", 1.0)
            shape = (reader.height, reader.width, translator.target.channels)
            write_tiff(target, partial.tiles(), shape, translator.target.dtype, side, tags)
            partial.remove()
        return LargeResult(notes)


class _Job:
    """One file on its way: statistics, then rows of tiles."""

    def __init__(
        self,
        translator: Translator,
        path: Path,
        reader: Source,
        plan: Plan,
        statistics: StatisticsKind,
        on_progress: OnProgress,
        save_seconds: float,
    ) -> None:
        self.translator, self.path, self.reader, self.plan = translator, path, reader, plan
        self.statistics, self.on_progress, self.save_seconds = statistics, on_progress, save_seconds
        self._saved = time.monotonic()

    def key(self) -> str:
        """A digest of all that the result depends on."""
        digest = hashlib.sha256()
        translator, about = self.translator, self.path.stat()
        parts = [self.path.resolve(), about.st_size, about.st_mtime_ns, self.plan.side, self.statistics, __version__]
        parts += [translator.source, translator.target, translator.info.model, translator.device]
        digest.update("\n".join(str(part) for part in parts).encode())
        for name, values in translator.original.state_dict().items():
            digest.update(name.encode())
            digest.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def rows(self, partial: "_Partial | None", *, first: int) -> Iterator[Array]:
        """The result from row `first` of tiles on."""
        translator, plan = self.translator, self.plan
        network, model = translator.original, translator.info.model
        state = State() if partial is None else partial.load(translator.device)
        if self.statistics != "exact" and not state.statistics:
            available = available_bytes(translator.device)

            def plan_of(height: int, width: int) -> Plan:
                return choose_plan(network, height, width, plan.side, available=available, is_given=False)

            self.on_progress(f"statistics of {'crops' if self.statistics == 'crops' else 'the reduced image'}", 0.0)
            state.statistics = approximate_statistics(
                network, self.reader, translator.source, model, self.statistics, lambda _n, _s: None, plan_of
            )
            if partial is not None:
                partial.save(state)

        names: dict[str, int] = {}

        def on_share(name: str, share: float) -> None:
            names.setdefault(name, len(names) + 1)
            self.on_progress(f"statistics, pass {names[name]} of {tiled.num_passes}", share)

        def on_block(state: State) -> None:
            if partial is not None and time.monotonic() - self._saved >= self.save_seconds:
                partial.save(state)
                self._saved = time.monotonic()

        picture = picture_of(self.reader, translator.source, network, model)
        tiled = TiledNetwork(network, picture, plan, state=state, on_share=on_share, on_block=on_block)
        output = tiled.output()
        if partial is not None and tiled.num_passes and time.monotonic() - self._saved >= self.save_seconds:
            partial.save(state)
        height, side = self.reader.height, plan.side
        count = -(-height // side)
        begin = 1 - tiled.output_share
        for index, row in enumerate(
            output_rows(output, height, self.reader.width, side, translator.target, first=first), first + 1
        ):
            yield row
            self.on_progress(f"row {index} of {count}", begin + tiled.output_share * index / count)


class _Partial:
    """What is done of a file, in a hidden folder beside it: compressed tiles by rows, and what was found out before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data, self._lines = folder / "tiles.bin", folder / "rows.jsonl"
        self._counts: list[list[int]] = []

    @classmethod
    @contextmanager
    def open(cls, target: Path, key: str, notes: list[str]) -> Iterator["_Partial"]:
        """Of this process alone. What belongs to another key is removed, and `notes` says so."""
        folder = target.with_name(f".{target.name}.partial")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            if not lock(file):
                raise InputError(f"{target} is being made by another process; wait for it, or choose another --out.")
            partial = cls(folder)
            about = folder / "key"
            if not about.exists() or about.read_text() != key:
                if about.exists():
                    notes.append(
                        f"{target.name}: what an earlier call had done of it was for another input, model or setting; "
                        "it starts anew."
                    )
                partial._clear()
                write_bytes(about, key.encode())
            partial._count()
            yield partial

    def plan(self, wanted: Plan, notes: list[str], fits: Callable[[Plan], bool]) -> Plan:
        """The plan that was begun with, so that no bit changes; `wanted` if there is none or it does not fit now."""
        about = self.folder / "plan.json"
        if about.exists():
            begun = Plan(**json.loads(about.read_text()))
            if fits(begun):
                return begun
            name = self.folder.name.removeprefix(".").removesuffix(".partial")
            notes.append(f"{name}: what was begun of it does not fit into the memory that is free now; it starts anew.")
            self._clear(about.with_name("key").name)
            self._counts = []
        write_bytes(about, json.dumps({"side": wanted.side, "stored": wanted.stored}).encode())
        return wanted

    def _clear(self, *kept: str) -> None:
        for path in self.folder.iterdir():
            if path.name not in ("lock", *kept):
                path.unlink()

    @property
    def num_rows(self) -> int:
        return len(self._counts)

    def _count(self) -> None:
        """Find the whole rows; what a stop has left behind them is cut off."""
        lines = self._lines.read_text().splitlines(keepends=True) if self._lines.exists() else []
        size = self._data.stat().st_size if self._data.exists() else 0
        end = 0
        for line in lines:
            counts = json.loads(line) if line.endswith("\n") else None
            if counts is None or end + sum(counts) > size:
                break
            self._counts.append(counts)
            end += sum(counts)
        write_bytes(self._lines, "".join(json.dumps(counts) + "\n" for counts in self._counts).encode())
        with self._data.open("ab") as file:
            file.truncate(end)

    def append(self, tiles: list[bytes]) -> None:
        """The tiles of one row; they count when the line about them is there."""
        counts = [len(tile) for tile in tiles]
        _append(self._data, b"".join(tiles))
        _append(self._lines, (json.dumps(counts) + "\n").encode())
        self._counts.append(counts)

    def tiles(self) -> Iterator[bytes]:
        with self._data.open("rb") as file:
            for counts in self._counts:
                for count in counts:
                    yield file.read(count)

    def save(self, state: State) -> None:
        """Write down what is known; an activation only where the disk has room for two."""
        about: dict[str, object] = {
            "statistics": {name: [m.tolist(), v.tolist()] for name, (m, v) in state.statistics.items()}
        }
        kept: Path | None = None
        activation = state.activation
        if activation is not None:
            if shutil.disk_usage(self.folder).free < 2 * activation.numel() * activation.element_size():
                return
            kept = self.folder / f"activation_{state.blocks}.bin"
            if not kept.exists():
                partial = self.folder / "activation.partial"
                with partial.open("wb") as file:
                    for row in activation.permute(0, 2, 3, 1)[0]:
                        file.write(np.ascontiguousarray(row.cpu().view(torch.uint8).numpy()).data)
                    _sync(file)
                partial.replace(kept)
            _, channels, height, width = activation.shape
            about |= {"activation": kept.name, "blocks": state.blocks, "shape": [height, width, channels]}
            about |= {"dtype": str(activation.dtype).removeprefix("torch.")}
        write_bytes(self.folder / "state.json", json.dumps(about).encode())
        for path in self.folder.glob("activation_*.bin"):
            if path != kept:
                path.unlink()

    def load(self, device: torch.device) -> State:
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        about = json.loads(path.read_text())
        state = State(
            {
                name: (torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64))
                for name, (mean, variance) in about["statistics"].items()
            }
        )
        if "activation" in about:
            values = np.fromfile(self.folder / about["activation"], np.uint8)
            tensor = torch.from_numpy(values).view(getattr(torch, about["dtype"])).reshape(1, *about["shape"])
            state.activation, state.blocks = tensor.permute(0, 3, 1, 2).to(device), about["blocks"]
        return state

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
        _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check_memory(
    translator: Translator,
    path: Path,
    size: tuple[int, int] | None,
    tile: int,
    statistics: StatisticsKind,
    decoded: int,
    *,
    to_tiff: bool,
) -> Plan | None:
    """How the file is run; None if nobody knows its size yet. decoded: bytes of the input that will be in memory.

    Raises InputError if it does not fit.
    """
    if size is None:
        return None
    height, width = size
    given = statistics != "exact"
    available = available_bytes(translator.device)
    try:
        plan = choose_plan(
            translator.original,
            height,
            width,
            tile,
            available=available,
            is_given=given,
            held=_beside(translator, height, width, tile, decoded, to_tiff=to_tiff),
        )
        if given:
            small = sample_size(height, width, statistics)
            choose_plan(translator.original, *small, tile, available=available, is_given=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return plan


def _room(translator: Translator, height: int, width: int, tile: int, decoded: int, *, to_tiff: bool) -> int | None:
    """Bytes that are left for a plan now; None where nobody says."""
    available = available_bytes(translator.device)
    return None if available is None else available - _beside(translator, height, width, tile, decoded, to_tiff=to_tiff)


def _beside(translator: Translator, height: int, width: int, tile: int, decoded: int, *, to_tiff: bool) -> int:
    """Bytes of what a plan stands beside where the network computes: the decoded input, and rows of the result."""
    row = 3 * width * (tile if to_tiff else height) * _pixel_bytes(translator.target)
    return decoded + row if translator.device.type == "cpu" else 0


def _held(translator: Translator, height: int, width: int) -> int:
    """Bytes of an image, of its result, and of both as float32 tensors."""
    pixels = height * width
    values = translator.source.channels + translator.target.channels
    return pixels * (4 * values + _pixel_bytes(translator.source) + _pixel_bytes(translator.target))


def _pixel_bytes(image_format: ImageFormat) -> int:
    return int(image_format.channels * np.dtype(image_format.dtype).itemsize)
