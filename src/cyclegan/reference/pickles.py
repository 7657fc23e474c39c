"""Load untrusted checkpoints without executing code: they are pickles, and only tensors are taken from them."""

import io
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.storage.weights import read_tensors
from cyclegan.system.json_files import cut, shown
from cyclegan.system.zip_files import harm_in

# Characters of the name of a tensor, and of one that a pickle loads.
_LONGEST_NAME, _LONGEST_LINE = 1000, 5000

# Keys under which training scripts save the weights beside other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params", "params_ema")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a `.pth` or `.safetensors` file, on the CPU.

    Raises InputError for a file that is missing, damaged, of another kind, or that would execute code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        reason = _other_kind(path)
        if reason is None and path.suffix == ".safetensors":
            content: Any = read_tensors(path)
        elif reason is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # errors below explain unusual pickles in one sentence
                # weights_only: torch's unpickler makes tensors and plain containers, and calls nothing else.
                with _ShortLines(io.FileIO(path)) as file:
                    content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_refusal(path, str(error))) from None
    except Exception as error:  # a damaged file raises errors of every kind
        detail = _first_sentence(str(error)) if str(error) else type(error).__name__
        raise InputError(
            f"{path} ({path.stat().st_size:,} bytes) is cut off, damaged, or no PyTorch checkpoint: {detail}."
        ) from None
    if reason is not None:
        raise InputError(f"{path} cannot be read: {reason}.")
    return _tensors(path, content)


class _ShortLines(io.BufferedReader):
    """A file in which names end: torch takes minutes for the message about one of 100 KB."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(_LONGEST_LINE if size is None or size < 0 else size)
        if len(line) >= _LONGEST_LINE:
            raise ValueError("a name in it has no end")
        return line


def _stored(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """The content of an entry that is not compressed, whether or not it has a checksum."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        return file.read(entry.file_size)


def _has_short_lines(pickled: bytes) -> bool:
    """The same of a pickle that torch unpacks by itself; False also for one that is no pickle."""
    try:
        return all(
            not isinstance(argument, str) or name.name != "GLOBAL" or len(argument) < _LONGEST_LINE
            for name, argument, _ in pickletools.genops(pickled)
        )
    except Exception:  # genops has many errors for damage
        return False


def _other_kind(path: Path) -> str | None:
    """What a file is, if its first bytes show that it is no state dict."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "it is empty"
    if head.startswith((b"\x04\x00\x00\x00\x01\x00\x00\x00", b"4\n1\n")) and re.search(rb"V 1|torch\.|nn\.", head):
        return (
            "it is a file of Lua Torch (.t7), whose networks differ; convert it to a PyTorch state dict first, or take "
            "the PyTorch version of the same model"
        )
    if head.lstrip()[:2].lower() in (b"<!", b"<h"):
        return "it is a web page; the download gave an error page instead of the model"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the model itself; fetch it with git lfs pull"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file, as Keras writes them; only PyTorch checkpoints can be read"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names, entries = archive.namelist(), archive.infolist()
            if any(name.endswith("constants.pkl") for name in names):
                return (
                    "it is a TorchScript program, and programs are not run; save the state dict of the network instead"
                )
            if not any(name.endswith("data.pkl") for name in names):
                return "it is a zip archive that holds no PyTorch checkpoint"
            harm = harm_in(archive, path.stat().st_size)
            if harm is not None:
                return f"{harm}; get it from another place"
            pickled = next(entry for entry in entries if entry.filename.endswith("data.pkl"))
            if not _has_short_lines(_stored(path, pickled)):
                return "its pickle is damaged; download it again"
            # torch does not check the checksums, and has an option not to write them.
            damaged = archive.testzip() if any(entry.CRC for entry in entries) else None
        if damaged is not None:
            return f"its entry {cut(damaged)} is damaged; download it again"
    return None


def _refusal(path: Path, message: str) -> str:
    """One sentence on what torch's unpickler refused."""
    wanted = re.search(r"GLOBAL ([A-Za-z_]\S+)", message) or re.search(r"[Uu]nsupported class ([A-Za-z_]\S+)", message)
    if wanted is None:
        operation = re.search(r"[Uu]nsupported operand", message)
        detail = "it is a pickle of something else" if operation else _first_sentence(message)
        return f"{path} is cut off, damaged, or no PyTorch checkpoint: {detail}."
    name = cut("".join(character if character.isprintable() else "?" for character in wanted[1][:200].rstrip(".")))
    network = re.match(r"(models|networks|torch\.nn)\.", name)
    whole = " It looks like a whole network, saved with torch.save(network)." if network else ""
    return (
        f"{path} is refused: loading it would call {name}, and only tensors are taken from a file; nothing was "
        f"executed.{whole} Ask its author for a state dict."
    )


def _first_sentence(message: str) -> str:
    return cut(message.splitlines()[0].partition(". ")[0].rstrip("."), 200)


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds {type(content).__name__} and not the named tensors of a network.")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise InputError(f"{path} is no state dict of one network: its entry {shown(key)} is {kind}.")
        if len(key) > _LONGEST_NAME:
            raise InputError(f"{path} is no state dict of one network: its entry {shown(key)} has too long a name.")
        ordinary = value.layout == torch.strided and not value.is_quantized and not value.is_meta
        # With more values than the file stores for it, a small file could fill the memory.
        if not ordinary or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(
                f"{path} is no state dict of one network: its entry {shown(key)} is not an ordinary tensor."
            )
    return dict(content)
