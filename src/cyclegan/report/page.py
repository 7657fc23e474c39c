"""A page to look at: one HTML file with its pictures inside. It needs no network, and its pictures no JavaScript."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image

from cyclegan.report.charts import Chart, chart_html
from cyclegan.system.atomic import write_bytes

# Pictures up to this many pixels are shown pixel by pixel and kept without loss.
_SMALL = 128
# The longer side of pictures in a slider, and of those that one chooses it by.
_LARGE, _THUMBNAIL = 512, 96


@dataclass(frozen=True)
class Table:
    """Numbers under a heading: rows of a name and values, as text. Lines of a cell after the first are set small."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures under column heads, each with a caption if there are any."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Image.Image]]
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Pair:
    """An image before and after translation, and its truth where that is known. label: a word or two for the choice."""

    caption: str
    before: Image.Image
    after: Image.Image
    truth: Image.Image | None = None
    label: str = ""


@dataclass(frozen=True)
class Slider:
    """Pairs to choose from, one laid over the other with a handle between them. before, after: what the sides show."""

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


@dataclass(frozen=True)
class Notice:
    """What must not be overlooked."""

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
    """Write the page; it needs no other file and no network."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h{section.level}>{html.escape(section.title)}</h{section.level}>")
        body += [f"<p>{html.escape(text)}</p>" for text in section.paragraphs]
        body += [_part(part) for part in section.parts]
    style, script = ((files("cyclegan.report") / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        # The browser itself keeps the page from asking any network for anything.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>\n{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>\n{script}</script>\n</body></html>\n"
    )
    write_bytes(path, page.encode())


def shrink(picture: Image.Image, side: int) -> Image.Image:
    """The picture, made smaller if it must be so that its longer side has at most `side` pixels."""
    if max(picture.size) <= side:
        return picture
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _part(part: Part) -> str:
    if isinstance(part, str):
        return f"<pre>{html.escape(part)}</pre>"
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Gallery):
        return _gallery(part)
    if isinstance(part, Slider):
        return _slider(part)
    if isinstance(part, Frames):
        return _frames(part)
    if isinstance(part, Scale):
        return _scale(part)
    if isinstance(part, Chart):
        return chart_html(part)
    if isinstance(part, Notice):
        return f'<div class="notice" role="note">{"".join(f"<p>{html.escape(text)}</p>" for text in part.texts)}</div>'
    return f"<details><summary>{html.escape(part.title)}</summary><pre>{html.escape(part.text)}</pre></details>"


def _table(table: Table) -> str:
    rows = []
    for row in table.rows:
        cells = [f"<td>{_lines(row[0])}</td>", *(f'<td class="number">{_lines(value)}</td>' for value in row[1:])]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _rows(table.columns, rows)


def _lines(text: str) -> str:
    first, *others = html.escape(text).split("\n")
    return first + "".join(f"<small>{line}</small>" for line in others)


def _rows(columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    first = f"<tr>{head}</tr>\n" if any(columns) else ""
    return f'<div class="scroll"><table>{first}' + "\n".join(rows) + "</table></div>"


def _gallery(gallery: Gallery) -> str:
    rows, widest = [], 0
    for index, pictures in enumerate(gallery.rows):
        # Whole multiples keep pixels square.
        widths = [picture.width * max(1, 216 // picture.width) for picture in pictures]
        widest = max(widest, *widths)
        cells = [
            f"<td>{_image(picture, column, width)}</td>"
            for picture, column, width in zip(pictures, gallery.columns, widths, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
        if gallery.captions:
            caption = _lines(gallery.captions[index])
            rows.append(f'<tr class="caption"><td colspan="{len(cells)}">{caption}</td></tr>')
    # Columns of one width, however narrow the screen is.
    width = len(gallery.columns) * (widest + 10)
    return f'<div class="gallery" style="max-width:{width}px">{_rows(gallery.columns, rows)}</div>'


def _slider(slider: Slider) -> str:
    buttons, figures = [], []
    before, after = html.escape(slider.before), html.escape(slider.after)
    for pair in slider.pairs:
        caption = html.escape(pair.caption)
        thumbnail = _image(shrink(pair.after, _THUMBNAIL), pair.caption)
        label = f"<span>{html.escape(pair.label)}</span>" if pair.label else ""
        buttons.append(f'<button type="button" title="{caption}">{thumbnail}{label}</button>')
        size = max(pair.before.size)
        scale = max(1, _LARGE // size) if size <= _SMALL else _LARGE / size
        width = round(pair.before.width * scale)
        sides = _side("after", after, pair.after, width) + _side("before", before, pair.before, width)
        # A range input lies over both pictures and is what is moved: keyboard, mouse and touch work alike.
        handle = (
            f'<i class="handle"></i><input type="range" value="50" aria-label="share of the picture that is: {before}">'
        )
        views = f'<div class="compare">{sides}{handle}</div>'
        if pair.truth is not None:
            views += _side("truth", "truth", pair.truth, width)
        figures.append(
            f'<figure class="pair"><div class="views">{views}</div><figcaption>{caption}</figcaption></figure>'
        )
    choices = f'<div class="choices" role="group" aria-label="choose an image">{"".join(buttons)}</div>'
    return f'<div class="slider">{choices if len(buttons) > 1 else ""}{"".join(figures)}</div>'


def _side(kind: str, label: str, picture: Image.Image, width: int) -> str:
    image = _image(shrink(picture, _LARGE), label, width)
    return f'<div class="side {kind}">{image}<span class="tag">{label}</span></div>'


def _frames(frames: Frames) -> str:
    last = len(frames.frames) - 1
    name = html.escape(frames.name)
    figures = [
        f"<figure><figcaption>{html.escape(caption)}</figcaption>{_image(picture, caption)}</figure>"
        for caption, picture in frames.frames
    ]
    control = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="{name}">' if last > 0 else ""
    return f'<div class="frames">{control}{"".join(figures)}</div>'


def _scale(scale: Scale) -> str:
    (near, low), (far, high) = scale.ends
    values = [low, high, scale.value, *scale.interval]
    start, length = min(values), (max(values) - min(values)) or 1.0

    def place(value: float) -> str:
        return f"{100 * (value - start) / length:.2f}%"

    def mark(kind: str, value: float, text: str) -> str:
        at = place(value)
        # Shifted by its own share of its width, a text at either end stays inside.
        text = f'<span class="{kind}" style="left:{at};translate:-{at}">{html.escape(text)} {value:.3f}</span>'
        return f'<i class="{kind}" style="left:{at}"></i>{text}'

    first, second = scale.interval
    width = f"{100 * (second - first) / length:.2f}%"
    return (
        f'<div class="scale"><i class="track" style="left:{place(low)};width:{100 * (high - low) / length:.2f}%"></i>'
        f'<i class="interval" style="left:{place(first)};width:{width}"></i>'
        + mark("end", low, near)
        + mark("end far" if high - low < length / 2 else "end", high, far)
        + mark("value", scale.value, scale.name)
        + "</div>"
    )


def _image(picture: Image.Image, description: str, width: int | None = None) -> str:
    pixels = " class=pixels" if max(picture.size) <= _SMALL else ""
    return f'<img{pixels} src="{_data_url(picture)}" width="{width or picture.width}" alt="{html.escape(description)}">'


def _data_url(picture: Image.Image) -> str:
    """Without loss where the picture is small or that costs no more; else as JPEG."""
    small = max(picture.size) <= _SMALL
    content, kind = _encode(picture, "PNG", optimize=small), "png"
    if not small:
        jpeg = _encode(picture.convert("RGB"), "JPEG", quality=85, subsampling=0)
        content, kind = (jpeg, "jpeg") if len(jpeg) < len(content) else (content, kind)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
