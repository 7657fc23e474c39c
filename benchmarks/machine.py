"""What a benchmark ran on, in one line for its page."""

import platform
from pathlib import Path

from cyclegan.step.precision import cpu_name
from cyclegan.system.prefetch import num_cores

# What decides how fast 16 and 8 bits are.
_UNITS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine(device: str = "cpu") -> str:
    """The GPU, or the processor with its units and how many of its cores and threads are used; torch and Python."""
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
