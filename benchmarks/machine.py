"""Describe the machine of a benchmark in one line, for its page. Not a command."""

import platform
from pathlib import Path

from cyclegan.system.devices import cpu_name
from cyclegan.system.prefetch import num_cores

# Instructions that decide how fast 16-bit and 8-bit arithmetic is.
_UNITS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine(device: str = "cpu") -> str:
    """The GPU, or the processor with its matrix units and the number of cores and threads used; torch and Python."""
    import torch

    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {versions}"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()  # Linux
    except OSError:
        flags = []
    units = ", ".join(unit for unit in _UNITS if unit in flags)
    name = f"{cpu_name()} ({units})" if units else cpu_name()
    return f"{name}, {num_cores()} cores, {torch.get_num_threads()} threads, {versions}"
