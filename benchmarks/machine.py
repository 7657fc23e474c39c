"""What benchmarks share: a description of the machine, and the page of results. Not a command."""

import platform
from pathlib import Path

from cyclegan.system.devices import cpu_name
from cyclegan.system.prefetch import num_cores

# Instructions that decide how fast 16-bit and 8-bit arithmetic is.
_UNITS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine(device: str = "cpu") -> str:
    """The GPU, or the processor with its instruction sets, cores and threads; torch and Python. One line."""
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


def write_page(text: str, file: Path | None) -> None:
    """Print the results, and write them to the file of --markdown."""
    print("\n" + text)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
