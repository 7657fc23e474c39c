"""The finished part of a translation of a large image, kept on disk so that the next call can resume it."""

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


def partial_folder(target: Path) -> Path:
    """The hidden folder beside a target that keeps its finished part."""
    return target.with_name(f".{target.name}.partial")


class PartialResult:
    """The finished part of a target in its hidden folder: rows of compressed tiles, and the state of the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data, self._lines = folder / "tiles.bin", folder / "rows.jsonl"
        self._counts: list[list[int]] = []

    @classmethod
    @contextmanager
    def open(cls, target: Path, key: str, notes: list[str]) -> Iterator["PartialResult"]:
        """Lock the folder for this process. Work with another key is removed, with a sentence in `notes`."""
        folder = partial_folder(target)
        folder.mkdir(parents=True, exist_ok=True)
        message = f"{target} is being written by another process; wait for it, or choose another --out."
        with locked(folder / "lock", message):
            partial = cls(folder)
            key_file = folder / "key"
            if not key_file.exists() or key_file.read_text() != key:
                if key_file.exists():
                    notes.append(
                        f"{target.name}: an earlier call started it with another input, model or setting; it starts "
                        "over."
                    )
                partial._clear()
                write_bytes(key_file, key.encode())
            partial._find_rows()
            yield partial

    def plan(self, wanted: TilingPlan, notes: list[str], fits: Callable[[TilingPlan], bool]) -> TilingPlan:
        """The plan of the earlier call, so that no bit changes; `wanted` if there is none or it no longer fits."""
        plan_file = self.folder / "plan.json"
        if plan_file.exists():
            earlier = TilingPlan(**json.loads(plan_file.read_text()))
            if fits(earlier):
                return earlier
            name = self.folder.name.removeprefix(".").removesuffix(".partial")
            notes.append(f"{name}: the earlier call needs more memory than is free now; it starts over.")
            self._clear("key")
            self._counts = []
        write_bytes(plan_file, json.dumps({"side": wanted.side, "stored": wanted.stored}).encode())
        return wanted

    def _clear(self, *kept: str) -> None:
        for path in self.folder.iterdir():
            if path.name not in ("lock", *kept):
                path.unlink()

    @property
    def num_rows(self) -> int:
        return len(self._counts)

    def _find_rows(self) -> None:
        """Count the complete rows, and cut off what follows them."""
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
        """Add the tiles of one row. The row is complete when its line is written."""
        counts = [len(tile) for tile in tiles]
        _append(self._data, b"".join(tiles))
        _append(self._lines, (json.dumps(counts) + "\n").encode())
        self._counts.append(counts)

    def tiles(self) -> Iterator[bytes]:
        """All tiles, in order."""
        with self._data.open("rb") as file:
            for counts in self._counts:
                for count in counts:
                    yield file.read(count)

    def save(self, state: TilingState) -> None:
        """Save the state; an activation only if the disk has room for two."""
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
        """The saved state, or an empty one."""
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
