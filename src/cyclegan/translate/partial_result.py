"""The finished part of a translation of a large image, kept on disk so that the next call can resume it."""

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from cyclegan.errors import InputError, UnreadableError
from cyclegan.system.atomic import naming, write_bytes
from cyclegan.system.json_files import read_json, read_json_lines
from cyclegan.system.work_folder import WorkFolder
from cyclegan.translate.tiling.network import TilingPlan, TilingState

_FILES = r"key|whole\.tif|plan\.json|rows\.jsonl|tiles\.bin|state\.json|activation_\d+\.bin|activation\.partial"

# Bytes of a name that leave room for what is added to it.
_MAX_NAME = 240

# Bytes that are read at once.
_CHUNK = 2**24


def partial_folder(target: Path) -> Path:
    """The hidden folder beside a target that keeps its finished part. Its name has at most 255 bytes, as files may."""
    name = os.fsencode(target.name)
    if len(name) > _MAX_NAME:
        digest = hashlib.sha256(name).hexdigest()[:16]
        return target.with_name(f".{name[:200].decode(errors='ignore')}.{digest}.partial")
    return target.with_name(f".{target.name}.partial")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Plan(_Record):
    side: PositiveInt
    stored: NonNegativeInt


class _Row(_Record):
    """One line of rows.jsonl. tiles: bytes of each compressed tile. crc32: of these numbers and tiles, of all rows."""

    tiles: list[PositiveInt] = Field(min_length=1)
    crc32: NonNegativeInt


class _Activation(_Record):
    """What is in activation_N.bin, after N blocks. shape: height, width, channels. crc32: of the file."""

    blocks: NonNegativeInt
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    dtype: Literal["float32", "float64", "float16", "bfloat16"]
    crc32: NonNegativeInt


class _State(_Record):
    """state.json. statistics: mean and variance of each channel, by norm. crc32: of all else, as it is written."""

    statistics: dict[str, tuple[list[float], list[float]]]
    activation: _Activation | None = None
    crc32: NonNegativeInt = 0

    def checksum(self) -> int:
        return zlib.crc32(self.model_dump_json(exclude={"crc32"}).encode())


class PartialResult:
    """The finished part of a target in its hidden folder: rows of compressed tiles, and the state of the network.

    All of it is checked against checksums. What is damaged is done again, with a sentence in `notes`.
    """

    def __init__(self, folder: Path, notes: list[str] | None = None) -> None:
        self.folder = folder
        self._files = WorkFolder(folder, _FILES)
        self._notes = [] if notes is None else notes
        self._data, self._lines = folder / "tiles.bin", folder / "rows.jsonl"
        self._rows: list[_Row] = []
        self._saved: _Activation | None = None  # the one on disk

    @classmethod
    @contextmanager
    def open(cls, target: Path, key: str, notes: list[str]) -> Iterator["PartialResult"]:
        """Lock the folder for this process. Work with another key is removed, with a sentence in `notes`.

        Raises InputError if another process works there, and if the folder is a link or holds other files.
        """
        partial = cls(partial_folder(target), notes)
        message = f"{target} is being written by another process; wait for it, or choose another --out."
        with naming(target), partial._files.locked(message):
            partial._check_key(key)
            partial._find_rows()
            yield partial

    def _check_key(self, key: str) -> None:
        file = self.folder / "key"
        if file.exists() and file.read_bytes() == key.encode():
            return
        if file.exists():
            self._note("an earlier call started it with another input, model or setting; it starts over.")
        self._files.clear()
        try:
            write_bytes(file, key.encode())
        except OSError:
            self.remove()  # nothing is in it
            raise

    def plan(self, wanted: TilingPlan, possible: Collection[int], fits: Callable[[TilingPlan], bool]) -> TilingPlan:
        """The plan of the earlier call, so that no bit changes; `wanted` if there is none or it no longer fits.

        possible: values of `stored` that a plan for this network may have.
        """
        plan_file = self.folder / "plan.json"
        if plan_file.exists() or self._rows:
            try:
                record = read_json(plan_file, _Plan)
                earlier = TilingPlan(record.side, record.stored)
            except UnreadableError:
                earlier = None
            if earlier is None or earlier.side != wanted.side or earlier.stored not in possible:
                self._note("the plan of the earlier call is damaged; it starts over.")
            elif fits(earlier):
                return earlier
            else:
                self._note("the earlier call needs more memory than is free now; it starts over.")
            self._files.clear("key")
            self._rows = []
        write_bytes(plan_file, json.dumps({"side": wanted.side, "stored": wanted.stored}).encode())
        return wanted

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    @property
    def _name(self) -> str:
        return self.folder.name.removeprefix(".").removesuffix(".partial")

    def _note(self, sentence: str) -> None:
        self._notes.append(f"{self._name}: {sentence}")

    def _find_rows(self) -> None:
        """Find the rows that are whole, and cut off what follows them."""
        lines: list[_Row] = []
        is_damaged = False
        if self._lines.exists():
            lines, num_damaged = read_json_lines(self._lines, _Row)
            # A kill leaves at most the last line incomplete.
            is_damaged = num_damaged > (not self._lines.read_bytes().endswith(b"\n"))
        end = checksum = 0
        if self._data.exists():
            with self._data.open("rb") as file:
                for row in lines:
                    checksum = _checksum(file, sum(row.tiles), _count_checksum(row.tiles, checksum))
                    if checksum != row.crc32:
                        is_damaged = True
                        break
                    self._rows.append(row)
                    end += sum(row.tiles)
        elif lines:
            is_damaged = True
        if is_damaged:
            self._note(f"some of the rows of tiles were damaged; all after row {self.num_rows} are done again.")
        write_bytes(self._lines, b"".join(_line(row) for row in self._rows))
        with self._data.open("ab") as file:
            file.truncate(end)

    def append(self, tiles: list[bytes]) -> None:
        """Add the tiles of one row. The row is complete when its line is written."""
        content, counts = b"".join(tiles), [len(tile) for tile in tiles]
        before = self._rows[-1].crc32 if self._rows else 0
        row = _Row(tiles=counts, crc32=zlib.crc32(content, _count_checksum(counts, before)))
        _append(self._data, content)
        _append(self._lines, _line(row))
        self._rows.append(row)

    def tiles(self) -> Iterator[bytes]:
        """All tiles, in order. Raises InputError if they have changed since they were checked."""
        checksum = 0
        with self._data.open("rb") as file:
            for row in self._rows:
                tiles = [file.read(count) for count in row.tiles]
                checksum = _count_checksum(row.tiles, checksum)
                for tile in tiles:
                    checksum = zlib.crc32(tile, checksum)
                if checksum != row.crc32:
                    # The cause makes it an error of the disk, after which the folder is kept.
                    raise InputError(
                        f"{self._data} has changed since it was written; check the disk, then run the same command "
                        "again: it keeps the rows that are whole."
                    ) from OSError("checksum")
                yield from tiles

    def save(self, state: TilingState) -> None:
        """Save the state; an activation only if the disk has room for two."""
        record = _State(statistics={name: (m.tolist(), v.tolist()) for name, (m, v) in state.statistics.items()})
        kept: Path | None = None
        activation = state.activation
        if activation is not None:
            if shutil.disk_usage(self.folder).free < 2 * activation.numel() * activation.element_size():
                return
            kept = _activation_file(self.folder, state.blocks)
            if self._saved is None or self._saved.blocks != state.blocks:
                self._saved = self._save_activation(activation, state.blocks)
            record.activation = self._saved
        record.crc32 = record.checksum()
        write_bytes(self.folder / "state.json", record.model_dump_json().encode())
        for path in self.folder.glob("activation_*.bin"):
            if path != kept:
                path.unlink()

    def _save_activation(self, activation: torch.Tensor, blocks: int) -> _Activation:
        partial, checksum = self.folder / "activation.partial", 0
        with partial.open("wb") as file:
            for row in activation.permute(0, 2, 3, 1)[0]:
                values = row.contiguous().cpu().view(torch.uint8).numpy().data
                checksum = zlib.crc32(values, checksum)
                file.write(values)
            _sync(file)
        partial.replace(_activation_file(self.folder, blocks))
        _, channels, height, width = activation.shape
        dtype = str(activation.dtype).removeprefix("torch.")
        return _Activation.model_validate(
            {"blocks": blocks, "shape": (height, width, channels), "dtype": dtype, "crc32": checksum}
        )

    def load(self, device: torch.device) -> TilingState:
        """The saved state; without what is damaged, which is computed again, or an empty one."""
        path = self.folder / "state.json"
        if not path.exists():
            return TilingState()
        try:
            record = read_json(path, _State)
        except UnreadableError:
            record = None
        if record is None or record.checksum() != record.crc32:
            self._note("the saved statistics of the earlier call were damaged; they are computed again.")
            return TilingState()
        state = TilingState(
            {
                name: (torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64))
                for name, (mean, variance) in record.statistics.items()
            }
        )
        if record.activation is not None:
            tensor = self._load_activation(record.activation)
            if tensor is None:
                self._note("the saved activation of the earlier call was damaged; it is computed again.")
            else:
                state.activation = tensor.permute(0, 3, 1, 2).to(device)
                state.blocks = record.activation.blocks
                self._saved = record.activation
        return state

    def _load_activation(self, about: _Activation) -> torch.Tensor | None:
        """(1, H, W, C), or None if the file is not the one that was saved."""
        dtype: torch.dtype = getattr(torch, about.dtype)
        path = _activation_file(self.folder, about.blocks)
        num_bytes = math.prod(about.shape) * dtype.itemsize
        if not path.exists() or path.stat().st_size != num_bytes:
            return None
        values = np.fromfile(path, np.uint8)
        if zlib.crc32(values.data) != about.crc32:
            return None
        return torch.from_numpy(values).view(dtype).reshape(1, *about.shape)

    @property
    def whole(self) -> Path:
        """Where the whole result may wait until it is written again in another layout."""
        return self.folder / "whole.tif"

    def remove(self) -> None:
        self._files.remove()


def _activation_file(folder: Path, blocks: int) -> Path:
    return folder / f"activation_{blocks}.bin"


def _count_checksum(counts: list[int], checksum: int) -> int:
    return zlib.crc32(repr(counts).encode(), checksum)


def _checksum(file: IO[bytes], count: int, checksum: int) -> int:
    """The checksum continued over the next `count` bytes; -1 if there are fewer."""
    while count:
        content = file.read(min(count, _CHUNK))
        if not content:
            return -1
        checksum, count = zlib.crc32(content, checksum), count - len(content)
    return checksum


def _line(row: _Row) -> bytes:
    return row.model_dump_json().encode() + b"\n"


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
        _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
