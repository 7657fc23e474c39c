"""Show an inspection in the terminal and as a page."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from PIL import Image, ImageOps

from cyclegan._version import __version__
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced
from cyclegan.inspection import Inspection
from cyclegan.inspection.advice import listed, percent
from cyclegan.inspection.distance import Distance
from cyclegan.inspection.duplicates import Copies, Copy
from cyclegan.inspection.run_summary import RunSummary
from cyclegan.inspection.survey import BINS, FolderReport, picture
from cyclegan.report.page import Gallery, Section, Table, montage, write_report
from cyclegan.system.provenance import command_line
from cyclegan.system.terminal import printable
from cyclegan.system.words import counted

if TYPE_CHECKING:  # `import cyclegan` does not wait for it
    from rich.console import Console

# Names in the terminal, pairs of pictures and names on the page, before "and N more".
_MOST_NAMES, _MOST_PAIRS, _MOST_LINES = 8, 12, 200

# Pictures, columns and pixels of a picture in a contact sheet.
_SHEET, _COLUMNS, _SIDE = 40, 8, 112

Item = TypeVar("Item")

_BLOCKS, _ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"


# ---- terminal


def show_inspection(inspection: Inspection, console: "Console") -> None:
    """Print the run, one table of all folders, files that cannot be read, copies, distributions, and advice."""
    from rich.table import Table as ScreenTable

    def say(text: str = "", style: str = "") -> None:
        # Long lines stay whole for programs that read them.
        console.print(text, style=style, soft_wrap=not console.is_terminal)

    if inspection.run is not None:
        for line in (*_run_lines(inspection.run), ""):
            say(line)
    folders = inspection.folders
    if folders:
        table = ScreenTable("", show_edge=False, pad_edge=False)
        for name in folders:
            table.add_column(name, overflow="fold")
        for row in table_of(folders):
            table.add_row(*row)
        console.print(table)
        say()
    for name, folder in folders.items():
        for line in _unreadable(name, folder):
            say(line, style="red")
    for found in inspection.copies:
        if found.copies:
            for line in (
                f"{title_of(found)}: {found.counts}",
                *_some(found.copies, lambda copy: f"  {describe_copy(copy)}"),
            ):
                say(line)
    if folders:
        blocks = _ASCII_BLOCKS if console.options.ascii_only else _BLOCKS
        say(f"Brightness and saturation, from 0 at the left to 1 at the right ({BINS} steps):")
        for name in _domains(folders):
            colour = folders[name].colour
            say(f"  {name} brightness |{_bars(colour.brightness_histogram, blocks)}| {colour.brightness:.2f}")
            say(f"  {name} saturation |{_bars(colour.saturation_histogram, blocks)}| {colour.saturation:.2f}")
        say()
    if inspection.distance_missing:
        say(inspection.distance_missing)
        say()
    if inspection.advice:
        say("Advice:")
    for advice in inspection.advice:
        say(f"{'!' if advice.problem else '-'} {advice.text}", style="yellow" if advice.problem else "")


def _some(items: Sequence[Item], line: Callable[[Item], str], most: int = _MOST_NAMES) -> list[str]:
    """A line for each of the first items, and how many more there are."""
    more = len(items) - most
    return [*map(line, items[:most]), *([f"  ... and {more} more"] if more > 0 else [])]


def _unreadable(name: str, folder: FolderReport) -> list[str]:
    return _some(folder.unreadable, lambda found: f"Cannot be read, {name}: {printable(found[0])}: {found[1]}")


def _bars(histogram: Sequence[float], blocks: str) -> str:
    highest = max(histogram)
    # Every share above 0 is visible: it has at least the smallest block.
    return "".join(
        blocks[0] if share == 0 else blocks[max(1, round(share / highest * (len(blocks) - 1)))] for share in histogram
    )


def _domains(folders: Mapping[str, FolderReport]) -> list[str]:
    return [name for name in folders if not name.startswith("test")]


def table_of(folders: Mapping[str, FolderReport]) -> Iterator[list[str]]:
    """Rows of the table of folders: a label, then a cell for each folder."""
    found = folders.values()
    rows: dict[str, Callable[[FolderReport], object]] = {
        "images": len,
        "cannot be read": lambda folder: len(folder.unreadable),
        "other files": lambda folder: listed(folder.ignored) or "0",
        "on disk": lambda folder: _bytes(folder.num_bytes),
        "format": lambda folder: _counts(folder.formats),
        "pixels": lambda folder: _counts(folder.kinds),
        "values": lambda folder: f"{folder.low:g} to {folder.high:g}",
        "holes": _holes,
        "coordinates": lambda folder: _of_places(folder, "systems"),
        "pixel on earth": lambda folder: _of_places(folder, "pixels"),
        "bands": lambda folder: _of_places(folder, "bands"),
        "usual size": _usual_size,
        "smallest": lambda folder: f"{folder.smallest.width}x{folder.smallest.height}",
        "largest": lambda folder: f"{folder.largest.width}x{folder.largest.height}",
        "without colour": lambda folder: folder.num_grey,
        "brightness": lambda folder: f"{folder.colour.brightness:.2f}",
        "contrast": lambda folder: f"{folder.colour.contrast:.2f}",
        "saturation": lambda folder: f"{folder.colour.saturation:.2f}",
        # Without the leading zero, so that four folders fit into 80 columns.
        "mean R G B": lambda folder: " ".join(f"{mean:.2f}".removeprefix("0") for mean in folder.colour.channels),
    }
    is_shown = {
        "cannot be read": any(folder.unreadable for folder in found),
        "other files": any(folder.ignored for folder in found),
        "values": any(folder.middle is not None for folder in found),
        "holes": any(folder.holes is not None for folder in found),
        "coordinates": any(folder.places is not None for folder in found),
        "pixel on earth": any(folder.places is not None and folder.places.pixels for folder in found),
        "bands": any(folder.places is not None and folder.places.bands for folder in found),
    }
    for label, cell in rows.items():
        if is_shown.get(label, True):
            yield [label, *(str(cell(folder)) for folder in found)]


def _counts(counts: Mapping[str, int]) -> str:
    return next(iter(counts)) if len(counts) == 1 else listed(counts)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _holes(folder: FolderReport) -> str:
    holes = folder.holes
    return "none" if holes is None else f"{percent(holes.share)} ({_counts(holes.marked)})"


def _of_places(folder: FolderReport, field: Literal["systems", "pixels", "bands"]) -> str:
    counts = {} if folder.places is None else getattr(folder.places, field)
    missing = len(folder) - sum(counts.values())
    shown = counts if not missing or not counts else {**counts, "none": missing}
    return _counts({printable(name): count for name, count in shown.items()}) if shown else "none"


def _usual_size(folder: FolderReport) -> str:
    size = folder.most_common
    share = "all" if folder.num_sizes == 1 else f"{size.count}, of {folder.num_sizes} sizes"
    return f"{size.width}x{size.height} ({share})"


def title_of(found: Copies) -> str:
    return f"Copies inside {found.folder}" if found.folder == found.of else f"Copies of {found.of} in {found.folder}"


def describe_copy(copy: Copy) -> str:
    file, of = printable(copy.file), printable(copy.of)
    if copy.exact:
        return f"{file} = {of}"
    mirrored = ", mirrored" if copy.mirrored else ""
    return f"{file} ~ {of} (difference {copy.difference:.3f}, correlation {copy.correlation:.3f}{mirrored})"


def _run_lines(run: RunSummary) -> Iterator[str]:
    share = f", {run.share:.0%} of {run.length}" if run.share is not None else f" of {run.length}"
    done = f"{run.step} steps at the newest checkpoint{share}" if run.step is not None else f"no checkpoint{share}"
    minutes = f", {run.seconds / 60:.1f} minutes of training" if run.seconds is not None else ""
    yield f"Run {run.directory}: preset {run.preset}, {done}{minutes}."
    count = counted(len(run.checkpoints), "checkpoint")
    checkpoints = f"{count} ({', '.join(run.checkpoints)})" if run.checkpoints else ""
    model = f"a model of step {run.model_step}" if run.model_step is not None else "no finished model"
    yield f"It holds {model}{f' and {checkpoints}' if checkpoints else ''}; {_bytes(run.num_bytes)} on disk."
    if run.losses:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in run.losses.items())
        yield f"Last losses, step {run.logged_step}: {losses}."
    if run.best_step is not None and run.best_kid is not None:
        yield f"Best so far: step {run.best_step}, with a KID of {run.best_kid:.3f} on validation images."
    yield from _some(run.events, str)
    if run.missing:
        yield run.missing


# ---- page


def write_inspection(inspection: Inspection, path: Path) -> None:
    """Write a page of one file: advice, contact sheets, distributions, copies side by side.

    Reads the pictures again. Raises OSError if the page cannot be written.
    """
    folders, run = inspection.folders, inspection.run
    sections = []
    if run is not None:
        sections.append(Section("The run", list(_run_lines(run))))
    if inspection.advice:
        lines = [f"{'Look into this: ' if advice.problem else ''}{advice.text}" for advice in inspection.advice]
        sections.append(Section("Advice", lines))
    if folders:
        rows = list(table_of(folders))
        places = [printable(f"{name}: {folder.root}") for name, folder in folders.items()]
        sections.append(Section("The folders", places, [Table(["", *folders], rows)]))
    for name, folder in folders.items():
        if folder.unreadable:
            rows = [[printable(file), reason] for file, reason in folder.unreadable[:_MOST_LINES]]
            more = len(folder.unreadable) - len(rows)
            text = [f"The first {len(rows)} of {len(folder.unreadable)}."] if more > 0 else []
            sections.append(Section(f"Files of {name} that cannot be read", text, [Table(["file", "reason"], rows)]))
    sections += [_contact_sheet(name, folders[name]) for name in _domains(folders)]
    if folders:
        meaning = (
            "Share of the pixels at each value, of 256 pixels of every image. Saturation is the largest of red, green "
            "and blue, less the smallest."
        )
        sections.append(Section("Brightness and colour", [meaning], [Gallery(["distributions"], [[_figure(folders)]])]))
    if inspection.distance is not None:
        sections.append(_distance_section(inspection.distance))
    sections += [_copies_section(found, folders) for found in inspection.copies if found.copies]
    sections.append(Section("How it was made", [f"cyclegan {__version__}"], [command_line()]))
    roots = " and ".join(folders[name].root.name for name in _domains(folders))
    title = f"Run {run.directory.name}" if run is not None else roots
    write_report(path, printable(f"Inspection: {title}"), sections)


def _contact_sheet(name: str, folder: FolderReport) -> Section:
    files = evenly_spaced(folder.files, _SHEET)
    tiles = [thumbnail(folder, file) for file in files]
    sheet = montage([tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)], gap=4)
    text = f"{len(files)} of {len(folder)} images, at equal distances in the list, not selected."
    return Section(f"Images of {name}", [text], [Gallery([name], [[sheet]])])


def thumbnail(folder: FolderReport, file: Path, side: int = _SIDE) -> Image.Image:
    """A square of `side` pixels with the whole image in its middle; grey for a file that was removed meanwhile."""
    with suppress(UnreadableError, InputError, OSError):
        return ImageOps.pad(picture(folder, file), (side, side), Image.Resampling.BICUBIC, color="#ddd")
    return Image.new("RGB", (side, side), "#ddd")


def _figure(folders: Mapping[str, FolderReport]) -> Image.Image:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.8), dpi=100, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    edges = [step / BINS for step in range(BINS + 1)]
    domains = _domains(folders)
    for number, name in enumerate(domains):
        colour = folders[name].colour
        left.stairs(colour.brightness_histogram, edges, fill=True, alpha=0.45, color=f"C{number}", label=name)
        middle.stairs(colour.saturation_histogram, edges, fill=True, alpha=0.45, color=f"C{number}", label=name)
        places = [channel + 0.4 * number for channel in range(3)]
        right.bar(places, colour.channels, 0.38, color=f"C{number}", alpha=0.7, label=name)
    for axes, title in ((left, "brightness"), (middle, "saturation")):
        axes.set(xlim=(0, 1), xlabel=title, ylabel="share of pixels")
        axes.legend()
    right.set(xticks=[0.2 * (len(domains) - 1) + i for i in range(3)], xticklabels=["R", "G", "B"], ylim=(0, 1))
    right.set_xlabel("mean of each channel")
    right.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return Image.open(buffer).convert("RGB")


def _distance_section(distance: Distance) -> Section:
    rows = [
        [f"A and B ({distance.num_a} and {distance.num_b} images)", f"{distance.value:.3f}"],
        ["95 % interval", f"{distance.low:.3f} to {distance.high:.3f}"],
        ["two halves of A", f"{distance.half_a:.3f}"],
        ["two halves of B", f"{distance.half_b:.3f}"],
    ]
    text = (
        f"Kernel distance (unbiased, as KID) of {distance.features.label}. Halves are every other image and the rest; "
        "their distance is due to chance alone. It must not be compared with published KID."
    )
    return Section("How far apart the domains are", [text], [Table(["", "distance"], rows)])


def _copies_section(found: Copies, folders: Mapping[str, FolderReport]) -> Section:
    # Near copies first: exact ones need no look.
    shown = sorted(found.copies, key=lambda copy: copy.exact)[:_MOST_PAIRS]
    total = len(found.copies)
    text = f"{found.counts}. {len(shown)} of {total} are shown." if len(shown) < total else f"{found.counts}."
    pairs = [
        [thumbnail(folders[found.folder], copy.file, 216), thumbnail(folders[found.of], copy.of, 216)] for copy in shown
    ]
    gallery = Gallery([found.folder, found.of], pairs, list(map(describe_copy, shown)))
    lines = _some(found.copies, describe_copy, _MOST_LINES)
    return Section(title_of(found), [text], [gallery, "\n".join(lines)])
