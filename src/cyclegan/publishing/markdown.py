"""Text of unknown origin in Markdown: it is shown as it is, and makes no link, picture, HTML, heading or table."""

import re
import unicodedata

# Addresses stay as they are: they show where they lead.
_ADDRESS = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9_./?=&%#:+,;-]*[A-Za-z0-9_/]")
# What begins something else than text anywhere, or at the beginning of a line.
_SPECIAL = re.compile(r"[\\`*<>|$\[\]]|~(?=~)|(?<=~)~|(?<![^\W_])_|_(?![^\W_])|&(?=[#\w])")
_LEADING = re.compile(r"([-+=](?=[\s=+-]|$)|#(?=[\s#]|$)|(?<=\d)[.)](?=\s|$))")
# A range of numbers, as formats of images have it, which is no link.
_RANGE = re.compile(r"\[[-+0-9., e]+\](?![(\[:])")


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def plain(text: object) -> Markdown:
    """Markdown, in one line, that shows this text and nothing else. Markdown itself is returned as it is."""
    if isinstance(text, Markdown):
        return text
    line = _one_line(str(text))
    escaped, at = "", 0
    for match in re.finditer(f"{_ADDRESS.pattern}|{_RANGE.pattern}", line):
        escaped += _SPECIAL.sub(r"\\\g<0>", line[at : match.start()]) + match[0]
        at = match.end()
    escaped += _SPECIAL.sub(r"\\\g<0>", line[at:])
    return Markdown(re.sub(r"^(\d{0,9})" + _LEADING.pattern, r"\1\\\2", escaped))


def code(text: object) -> Markdown:
    """The text as code, in one line and without the characters that would end it."""
    return Markdown(f"`{_one_line(str(text)).replace('`', chr(39)).replace('|', '/') or ' '}`")


def link(address: str) -> Markdown:
    """A link that shows its address, if it is one of a web page; else plain text."""
    return Markdown(f"<{address}>") if _ADDRESS.fullmatch(address) else plain(address)


def _one_line(text: str) -> str:
    """Without line breaks, control characters, and marks that change the direction of writing."""
    return " ".join(
        "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text).split()
    )
