"""Time and peak memory of `cyclegan inspect` as folders grow, also where the pictures are alike.

Builds two folders of small PNGs for each case and inspects them in a separate process. Ratios compare twice as many
files with half of them: 2.0 is linear in time. Memory is above that of an inspection of two folders of 20 files.

    python benchmarks/inspect_folders.py --markdown benchmarks/results/inspect_folders.md
    python benchmarks/inspect_folders.py --files 2000 --cases copies near
"""

import argparse
import json
import resource  # POSIX
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, write_page

SIDE = 32


def _smooth(seed: int):
    """A picture of random colours on a coarse grid, as different from others as photos are."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _noise(seed: int):
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def _near(original: int, seed: int):
    """A picture with a little noise: nearly, but not exactly, a copy."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).integers(-6, 7, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(_smooth(original)) + noise, 0, 255).astype(np.uint8))


# What each case holds, and the picture of a file by its number among all files of both folders.
CASES: dict[str, tuple[str, Callable[[int], object]]] = {
    "copies": ("copies of one picture", lambda _: _smooth(0)),
    "few": ("24 pictures under many names", lambda index: _smooth(index % 24)),
    "near": ("near copies of one picture", lambda index: _near(0, index)),
    "clusters": ("near copies, in clusters of 100", lambda index: _near(index // 100, index)),
    "different": ("different pictures", _smooth),
    "noise": ("noise, all of one brightness", _noise),
}


def build(root: Path, case: str, count: int) -> None:
    """Two folders of `count` files."""
    picture = CASES[case][1]
    for number, domain in enumerate("AB"):
        folder = root / f"train{domain}"
        folder.mkdir(parents=True)
        written: dict[bytes, Path] = {}
        for index in range(count):
            path = folder / f"{domain}{index:07d}.png"
            # Two folders of the same files are refused, so B begins with another picture.
            image = picture(number * count + index) if number == 0 or index > 0 else _smooth(10**6)
            key = image.tobytes()
            if key in written:
                shutil.copyfile(written[key], path)
            else:
                image.save(path)
                if case in ("copies", "few"):
                    written[key] = path


def measure(root: Path) -> dict[str, float]:
    """Seconds, peak MB of memory, and copies found, in a separate process."""
    command = [sys.executable, __file__, "--measure", str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(root: str) -> None:
    from cyclegan import inspect_folders

    before = time.perf_counter()
    found = inspect_folders(root, quiet=True)
    seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    copies = sum(len(copies.copies) for copies in found.copies)
    print(json.dumps({"seconds": seconds, "peak": peak, "copies": copies}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000, help="files of each folder (default: 50000)")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        _measure(options.measure)
        return
    lines = [
        *("# Inspecting large folders", "", f"`{' '.join(['python benchmarks/inspect_folders.py', *sys.argv[1:]])}`"),
        "",
        f"Two folders of PNGs of {SIDE}x{SIDE} pixels; seconds and memory for {options.files} files in each. One run "
        f"each. {describe_machine()}.",
        "",
        "| | seconds | MB | copies found | seconds, against half the files | MB, against half |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as work:
        build(Path(work, "small"), "different", 20)
        base = measure(Path(work, "small"))["peak"]
        for case in options.cases:
            found = {}
            for count in (options.files // 2, options.files):
                root = Path(work, case)
                build(root, case, count)
                found[count] = measure(root)
                print(f"{case}, {count} files: {found[count]}", file=sys.stderr)
                shutil.rmtree(root)
            half, whole = found.values()
            grown, all_grown = (max(result["peak"] - base, 1) for result in (half, whole))
            lines.append(
                f"| {CASES[case][0]} | {whole['seconds']:.0f} | {all_grown:.0f} | {whole['copies']:.0f} "
                f"| {whole['seconds'] / half['seconds']:.2f} | {all_grown / grown:.2f} |"
            )
    write_page("\n".join(lines) + "\n", options.markdown)


if __name__ == "__main__":
    main()
