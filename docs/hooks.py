"""MkDocs hook: fills pages with what the package itself knows, so that they cannot go stale.

A page asks for it with one of these comments on a line of its own:

    <!-- commands -->                   every subcommand, from its argparse parser
    <!-- settings: ModelConfig -->      the fields of a configuration class, with types, defaults and descriptions
    <!-- options of the reference -->   the options of pytorch-CycleGAN-and-pix2pix and their counterparts
    <!-- other public names -->         whatever `cyclegan.__all__` has and the page does not show yet
"""

import argparse
import re
from collections.abc import Iterator
from html import escape
from typing import Any, get_args

import cyclegan
from cyclegan.cli import _parser as make_parser
from cyclegan.reference.options import options_table


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with the text of each page."""
    fillers = {"commands": commands_page, "options of the reference": options_of_the_reference}
    for name, fill in fillers.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", fill())
    markdown = re.sub(r"<!-- settings: (\w+) -->", lambda match: settings_table(match[1]), markdown)
    if "<!-- other public names -->" in markdown:
        shown = set(re.findall(r"^::: cyclegan\.(\w+)$", markdown, re.MULTILINE)) | {"__version__"}
        rest = [f"::: cyclegan.{name}\n" for name in cyclegan.__all__ if name not in shown]
        markdown = markdown.replace("<!-- other public names -->", "\n".join(rest))
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Called by MkDocs with each page as HTML: keeps flags and other short code on one line."""
    return re.sub(r"<code>([^<]{1,30})</code>", r'<code class="short">\1</code>', html)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The argparse parser of every subcommand, in the order of `cyclegan --help`."""
    # With --help the parser of `train` fills in the defaults of the preset.
    parser = make_parser(["train", "--help"])
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def commands_page() -> str:
    return "\n".join(line for name, parser in parsers().items() for line in _command(name, parser))


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## cyclegan {name} {{ #{name} }}\n"
    yield f"{parser.description}\n"
    usage = parser.usage or re.sub(r"\x1b\[[\d;]*m", "", parser.format_usage()).removeprefix("usage: ").strip()
    yield "```text\n" + "\n".join(line.strip() for line in usage.splitlines()) + "\n```\n"
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if not actions:
            continue
        title = {"positional arguments": "Arguments", "options": "Options"}.get(group.title or "", group.title or "")
        yield f"**{title[:1].upper()}{title[1:]}**\n"
        if group.description:
            yield f"{group.description}\n"
        yield "| | |\n|---|---|"
        for action in actions:
            yield f"| {_signature(action)} | {_cell(_help(action))} |"
        yield ""
    if parser.epilog:
        yield f"```text\n{parser.epilog}\n```\n"


def _signature(action: argparse.Action) -> str:
    metavar = action.metavar or (None if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{metavar or action.dest}`"
    flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
    if action.nargs == 0:
        return flags
    if action.choices:
        return f"{flags} " + " \\| ".join(f"`{choice}`" for choice in action.choices)
    words = metavar if isinstance(metavar, tuple) else (f"{metavar} ...",) if action.nargs == "+" else (metavar,)
    return f"{flags} *{escape(' '.join(str(word) for word in words))}*"


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    known = {**vars(action), "prog": "cyclegan"}
    return text % known if "%(" in text else text.replace("%%", "%")


def _cell(text: str) -> str:
    """Plain text for a cell of a Markdown table; flags are set in code."""
    text = escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*")
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]+)", r"`\1`", text)


def settings_table(name: str) -> str:
    """The fields of a configuration class as a table."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for field, info in getattr(cyclegan, name).model_fields.items():
        default = "required" if info.is_required() else info.get_default(call_default_factory=True)
        shown = "" if hasattr(type(default), "model_fields") else f"`{default}`"
        lines.append(f"| `{field}` | {_cell(_type(info.annotation))} | {shown} | {_cell(info.description or '')} |")
    return "\n".join(lines) + "\n"


def _type(annotation: Any) -> str:
    words = [value for value in get_args(annotation) if isinstance(value, str)]
    if words:
        return ", ".join(words)
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if kinds and not str(annotation).startswith("tuple"):
        return " or ".join(_type(kind) for kind in kinds)
    return getattr(annotation, "__name__", str(annotation)) if not get_args(annotation) else str(annotation)


def options_of_the_reference() -> str:
    return options_table()
