"""A page to look at: one HTML file with its pictures inside."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cyclegan.images import write_bytes

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #8886; vertical-align: middle; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
td img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; }
.scroll { overflow-x: auto; }
.best { font-weight: 600; }
pre { overflow-x: auto; padding: .8rem; background: #8882; border-radius: .3rem; }
"""


@dataclass(frozen=True)
class Table:
    """Numbers under a heading. Rows are name, then values as text; the row of index `best` is set bold."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: int | None = None


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures under column heads."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Image.Image]]


@dataclass(frozen=True)
class Section:
    """One heading of the page: paragraphs, then a table, pictures or preformatted text."""

    title: str
    paragraphs: Sequence[str] = ()
    parts: Sequence[Table | Gallery | str] = ()


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page; it needs no other file and no network."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [f"<p>{html.escape(text)}</p>" for text in section.paragraphs]
        body += [_part(part) for part in section.parts]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    write_bytes(path, page.encode())


def _part(part: Table | Gallery | str) -> str:
    if isinstance(part, str):
        return f"<pre>{html.escape(part)}</pre>"
    head = "".join(f"<th>{html.escape(column)}</th>" for column in part.columns)
    rows = []
    if isinstance(part, Table):
        for index, row in enumerate(part.rows):
            cells = [f"<td>{html.escape(row[0])}</td>", *(f'<td class="number">{html.escape(v)}</td>' for v in row[1:])]
            rows.append(f"<tr{' class=best' if index == part.best else ''}>{''.join(cells)}</tr>")
    else:
        for pictures in part.rows:
            cells = [_picture(picture, column) for picture, column in zip(pictures, part.columns, strict=True)]
            rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>\n' + "\n".join(rows) + "</table></div>"


def _picture(picture: Image.Image, description: str) -> str:
    width = picture.width * max(1, 216 // picture.width)  # whole multiples keep pixels square
    return f'<td><img src="{_data_url(picture)}" width="{width}" alt="{html.escape(description)}"></td>'


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
