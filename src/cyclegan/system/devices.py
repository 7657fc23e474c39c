"""Devices by name, and what the machine can do."""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import torch
from platformdirs import user_cache_path

from cyclegan.errors import InputError
from cyclegan.system.json_files import shown
from cyclegan.system.words import counted


def resolve_device(name: str, number: int | None = None) -> torch.device:
    """The device of this name; `auto` is cuda, else mps, else cpu. Raises InputError if this machine has none.

    number: of this process among those of this machine, where several train together; each takes the GPU of its number.
    """
    if not isinstance(name, str):
        raise InputError(f"device is {shown(name)}; expected cpu, cuda, cuda:N, mps or auto.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):  # ValueError: text that is not Unicode
        raise InputError(f"There is no device {shown(name)}; choose cpu, cuda, cuda:N, mps or auto.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"Device {name} was requested, but torch {torch.__version__} sees no CUDA here; use --device cpu."
        )
    if device.type == "cuda" and number is not None:
        if name.startswith("cuda:"):
            raise InputError(f"device is {name}, but each process has a GPU of its own; use --device cuda.")
        if number >= torch.cuda.device_count():
            raise InputError(
                f"At least {number + 1} processes run on this machine, which has "
                f"{counted(torch.cuda.device_count(), 'GPU')}; "
                "start one for each GPU (--nproc-per-node), or pass --device cpu."
            )
        device = torch.device("cuda", number)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"Device {name} was requested, but there are {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(
            f"Device {name} was requested, but torch {torch.__version__} sees no MPS here; use --device cpu."
        )
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"Device {name!r} is not supported; choose cpu, cuda, cuda:N, mps or auto.")
    return device


def describe_device(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = counted(torch.get_num_threads(), "thread")
    return f"cpu ({threads})" if device.type == "cpu" else str(device)


def cpu_name() -> str:
    """The model name of the processor if the system gives it, else its architecture."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


# Options of mallopt, from malloc.h of glibc; 32 MiB is the most that it takes as the threshold.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def keep_freed_memory() -> None:
    """Keep freed memory in the process, because every training step, or every request, allocates the same sizes again.

    glibc returns large blocks to the system at once, which then has to clear every page again. With other C libraries
    this does nothing. For commands that train and end, and for servers that call `return_freed_memory`: the process
    does not shrink otherwise.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        for option, size in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)):
            libc.mallopt(option, size)


def share_freed_memory() -> None:
    """Let all threads allocate from the same few pools, so that what one of them has freed serves the others.

    glibc gives each thread a pool of its own, which keeps the memory of the largest image that the thread has read.
    With other C libraries this does nothing. For servers, before their threads begin.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def return_freed_memory() -> None:
    """Return what glibc keeps of freed memory to the system, such as after a large image. Takes milliseconds.

    With other C libraries this does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def keep_compiled_code() -> None:
    """Let torch.compile keep its code in the user's cache folder: its own default may be gone at the next start.

    For commands, because it sets TORCHINDUCTOR_CACHE_DIR, unless that is set.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache_path("cyclegan", appauthor=False) / "inductor"))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the chip has bfloat16 arithmetic, so that it saves time."""
    if device.type == "cuda":
        return (
            torch.cuda.get_device_capability(device) >= (8, 0) if torch.version.cuda else torch.cuda.is_bf16_supported()
        )
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def why_slow(precision: str, device: torch.device) -> str:
    """Why torch computes slower in this precision than in fp32 on this device; empty where it does not."""
    if precision not in ("bf16", "fp16") or device.type not in ("cpu", "cuda"):
        return ""
    if device.type == "cpu" and platform.machine().lower() not in ("x86_64", "amd64"):
        return f"{precision} was not measured on this kind of CPU, and fp32 may be faster"
    if precision == "bf16" and not has_fast_bf16(device):
        return f"this {device.type.upper()} has no bf16 arithmetic and emulates it, so fp32 is faster"
    if precision == "fp16" and device.type == "cpu":
        return "few CPUs have fp16 arithmetic that torch uses, and on the others fp32 is faster"
    return ""
