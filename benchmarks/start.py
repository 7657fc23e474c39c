"""Start-up time of commands and imports, beside that of `import torch`, in separate processes that take turns.

python benchmarks/start.py --markdown benchmarks/results/start.md
"""

import argparse
import resource  # POSIX
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine, write_page

CASES = {
    "python, nothing": ["-c", "pass"],
    "`import torch`": ["-c", "import torch"],
    "`import cyclegan`": ["-c", "import cyclegan"],
    "`from cyclegan import Translator`": ["-c", "from cyclegan import Translator"],
    "`from cyclegan import train`": ["-c", "from cyclegan import train"],
    "`cyclegan --help`": ["-m", "cyclegan", "--help"],
    "`cyclegan train --help`": ["-m", "cyclegan", "train", "--help"],
}


def start(arguments: list[str]) -> tuple[float, float]:
    """Wall-clock seconds, and seconds of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="starts of each (default: 9)")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    for arguments in CASES.values():  # fills the file cache
        start(arguments)
    found: dict[str, list[tuple[float, float]]] = {label: [] for label in CASES}
    for _ in range(options.rounds):
        for label, arguments in CASES.items():
            found[label].append(start(arguments))
    medians = {
        label: [statistics.median(column) for column in zip(*rows, strict=True)] for label, rows in found.items()
    }
    torch = medians["`import torch`"][0]
    lines = ["# Start", "", f"`{' '.join(['python benchmarks/start.py', *sys.argv[1:]])}`", ""]
    lines += [f"Medians of {options.rounds}; {describe_machine()}.", ""]
    lines += ["| | seconds | CPU seconds | more than `import torch` |", "|---|---|---|---|"]
    for label, (seconds, cpu) in medians.items():
        lines.append(f"| {label} | {seconds:.2f} | {cpu:.2f} | {seconds - torch:+.2f} s |")
    write_page("\n".join(lines) + "\n", options.markdown)


if __name__ == "__main__":
    main()
