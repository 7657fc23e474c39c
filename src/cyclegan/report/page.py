"""Pages: one HTML file with its pictures inside. It works offline, and shows its pictures without JavaScript.

A page is made of sections with parts. Each class of part has a macro of the same name in templates/parts.html.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cyclegan.report.charts import Chart
from cyclegan.system.atomic import write_bytes
from cyclegan.system.terminal import printable

# Pictures up to this many pixels are shown pixel by pixel and kept without loss.
_SMALL = 128
# Longer side of the pictures in a slider.
LARGE = 512


@dataclass(frozen=True)
class Table:
    """Rows of a name and values, as text. Lines of a cell after the first are set small."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures under column heads, each with a caption if there are any."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Image.Image]]
    captions: Sequence[str] = ()

    @property
    def width(self) -> int:
        """Largest width of the gallery in pixels."""
        widest = max(self.shown_width(picture) for pictures in self.rows for picture in pictures)
        return len(self.columns) * (widest + 10)

    def shown_width(self, picture: Image.Image) -> int:
        """Width of a picture in the gallery; whole multiples keep pixels square."""
        return picture.width * max(1, 216 // picture.width)


@dataclass(frozen=True)
class Pair:
    """An image before and after translation, and its truth where that is known. label: a word or two for the choice."""

    caption: str
    before: Image.Image
    after: Image.Image
    truth: Image.Image | None = None
    label: str = ""

    @property
    def width(self) -> int:
        """Width of each picture in pixels."""
        size = max(self.before.size)
        return round(self.before.width * (max(1, LARGE // size) if is_small(self.before) else LARGE / size))


@dataclass(frozen=True)
class Slider:
    """Pairs to choose from, one laid over the other with a handle between them. before, after: labels of the sides."""

    before: str
    after: str
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class Frames:
    """Pictures of the same thing at different times, one of them shown at a time: (caption, picture)."""

    name: str
    frames: Sequence[tuple[str, Image.Image]]


@dataclass(frozen=True)
class Scale:
    """A number and its interval on the line between two others, each with its name, such as `real images`."""

    name: str
    value: float
    interval: tuple[float, float]
    ends: tuple[tuple[str, float], tuple[str, float]]

    @property
    def _drawn(self) -> tuple[float, float]:
        values = [self.value, *self.interval, *(value for _, value in self.ends)]
        return min(values), (max(values) - min(values)) or 1.0

    @property
    def is_narrow(self) -> bool:
        """Whether the ends are so close that their names need two lines."""
        (_, low), (_, high) = self.ends
        return high - low < self._drawn[1] / 2

    def place(self, value: float) -> str:
        """Where a value lies, in percent of the width."""
        return self.share(value - self._drawn[0])

    def share(self, length: float) -> str:
        """How long a difference is, in percent of the width."""
        return f"{100 * length / self._drawn[1]:.2f}%"


@dataclass(frozen=True)
class Notice:
    """Warnings, set apart."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Details:
    """Long text that is folded away under its title."""

    title: str
    text: str


# A plain string is preformatted text, such as a command.
Part = Table | Gallery | Slider | Frames | Scale | Chart | Notice | Details | str


@dataclass(frozen=True)
class Section:
    """One heading of the page: paragraphs, then tables, pictures, preformatted text... level: 3 under one of 2."""

    title: str
    paragraphs: Sequence[str] = ()
    parts: Sequence[Part] = ()
    level: int = 2


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page. Equal sections give equal bytes."""
    style, script = (
        Markup((files("cyclegan.report") / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")
    )
    page = _templates().get_template("page.html")
    html = page.render(title=title, sections=sections, style=style, script=script)
    write_bytes(path, printable(html, keep="\n\t").encode())  # names of files may hold controls, or not be Unicode


def part_html(part: Part) -> str:
    """One part of a page; text inside it is escaped."""
    macro = getattr(_templates().get_template("parts.html").module, type(part).__name__)
    return Markup(macro(part))


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("cyclegan.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {
        "render": part_html,
        "is_small": is_small,
        "shrink": shrink,
        "data_url": _data_url,
        "LARGE": LARGE,
    }
    return templates


def galleries(rows: Iterable[tuple[Sequence[tuple[str, Image.Image]], str]], side: int = 256) -> list[Gallery]:
    """Rows of (column head, picture), each with a caption; a gallery for each list of heads that occurs."""
    groups: dict[tuple[str, ...], list[tuple[list[Image.Image], str]]] = {}
    for row, caption in rows:
        pictures = [shrink(picture, side) for _, picture in row]
        groups.setdefault(tuple(head for head, _ in row), []).append((pictures, caption))
    return [Gallery(heads, *map(list, zip(*of, strict=True))) for heads, of in groups.items()]


def montage(rows: Sequence[Sequence[Image.Image]], gap: int) -> Image.Image:
    """Rows of pictures as one picture on white; each cell has the size of the largest one."""
    width, height = (max(picture.size[axis] for row in rows for picture in row) + gap for axis in (0, 1))
    sheet = Image.new("RGB", (width * max(map(len, rows)) - gap, height * len(rows) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * width, y * height))
    return sheet


def shrink(picture: Image.Image, side: int) -> Image.Image:
    """The picture, reduced so that its longer side has at most `side` pixels."""
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    return picture


def is_small(picture: Image.Image) -> bool:
    """Whether a picture is shown pixel by pixel and kept without loss."""
    return max(picture.size) <= _SMALL


def _data_url(picture: Image.Image) -> str:
    """Without loss where the picture is small or that costs no more; else as JPEG."""
    small = is_small(picture)
    content, kind = _encode(picture, "PNG", optimize=small), "png"
    if not small:
        jpeg = _encode(picture.convert("RGB"), "JPEG", quality=85, subsampling=0)
        content, kind = (jpeg, "jpeg") if len(jpeg) < len(content) else (content, kind)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
