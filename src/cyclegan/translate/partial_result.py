"""What a stopped translation of a large image has done, kept on disk so that the next call goes on."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch

from cyclegan.system.atomic import locked, write_bytes
from cyclegan.translate.tiling.network import TilingPlan, TilingState


class PartialResult:
    """What is done of a file, in a hidden folder beside it: compressed tiles by rows, and what was found out before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data, self._lines = folder / "tiles.bin", folder / "rows.jsonl"
        self._counts: list[list[int]] = []

    @classmethod
    @contextmanager
    def open(cls, target: Path, key: str, notes: list[str]) -> Iterator["PartialResult"]:
        """Of this process alone. What belongs to another key is removed, and `notes` says so."""
        folder = target.with_name(f".{target.name}.partial")
        folder.mkdir(parents=True, exist_ok=True)
        message = f"{target} is being made by another process; wait for it, or choose another --out."
        with locked(folder / "lock", message):
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

    def plan(self, wanted: TilingPlan, notes: list[str], fits: Callable[[TilingPlan], bool]) -> TilingPlan:
        """The plan that was begun with, so that no bit changes; `wanted` if there is none or it does not fit now."""
        about = self.folder / "plan.json"
        if about.exists():
            begun = TilingPlan(**json.loads(about.read_text()))
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

    def save(self, state: TilingState) -> None:
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

    def load(self, device: torch.device) -> TilingState:
        path = self.folder / "state.json"
        if not path.exists():
            return TilingState()
        about = json.loads(path.read_text())
        state = TilingState(
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
