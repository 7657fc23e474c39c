"""`cyclegan studio`."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.cli.arguments import add_argument, add_device, check_serve_packages
from cyclegan.errors import InputError
from cyclegan.system.terminal import say

if TYPE_CHECKING:
    from cyclegan.serving.settings import ServeSettings

SUMMARY = "Open a page on this computer to translate images, watch runs, and look at data before training."

EXAMPLES = """examples:
  cyclegan studio                              (the runs below runs/)
  cyclegan studio runs/maps                    (one run)
  cyclegan studio experiments/ --allow-train   (and trainings may be started from the page)
  cyclegan studio --host 0.0.0.0 --token ...   (for other computers, which then need the token)

Prints the address of the page. Ctrl-C closes it; a training that it started goes on. docs/guides/studio.md shows it."""

DEFAULT_PORT = 8001

# Ports after the default one that are tried.
_MOST_TRIES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    runs_help = "Folder with runs and models, or one of them (default: runs, or else the folder that you are in)."
    add("runs_dir", Path, runs_help, metavar="RUNS_DIR", nargs="?")
    add("--allow-train", bool, "Let the page start trainings on this computer.")
    port_help = f"Port to listen on; 0: a free one (default: {DEFAULT_PORT}, or the next free one)."
    add("--port", int, port_help, metavar="PORT")
    add(
        "--host",
        str,
        "Address to listen on; 0.0.0.0: all of this machine, for other computers",
        "127.0.0.1",
        metavar="ADDRESS",
    )
    token_help = (
        "Ask for this token; needed for any --host but this computer's own. Other users of this machine see it, unlike "
        "the environment variable CYCLEGAN_TOKEN."
    )
    add("--token", str, token_help, metavar="TOKEN")
    names_help = "Name under which other computers reach the page, beside --host; give it once for each."
    add("--allowed-host", str, names_help, metavar="NAME", action="append")
    open_help = "Open the page in a browser (default: if this terminal has one)."
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, default=None, help=open_help)
    add_device(parser)


def run(parsed: argparse.Namespace) -> None:
    check_serve_packages("studio")
    runs_dir = _folder(parsed.runs_dir)
    settings = _settings(parsed)

    from cyclegan.demo.run import EARTH_MODEL
    from cyclegan.serving.server import serve
    from cyclegan.studio.app import create_studio
    from cyclegan.studio.models import Example

    earth = Example(EARTH_MODEL, {"a": "satellite photo", "b": "map"})
    app = create_studio(
        runs_dir,
        settings,
        allow_train=parsed.allow_train,
        device=parsed.device,
        examples={"Earth (an example)": earth},
    )
    opens = _has_browser() if parsed.open is None else parsed.open
    serve(app, app.state.service.store, settings, on_ready=lambda address: _announce(address, settings, opens=opens))


def _folder(given: Path | None) -> Path:
    """The folder that is shown. Raises InputError if it is none."""
    if given is None:
        return Path("runs") if Path("runs").is_dir() else Path()
    if not given.is_dir():
        what = "is a file" if given.exists() else "does not exist"
        raise InputError(f"{given} {what}; expected a folder with runs, or a run.")
    return given


def _settings(parsed: argparse.Namespace) -> "ServeSettings":
    """Where the page is served, with a free port. Raises InputError for values that cannot be used."""
    from dataclasses import replace

    from cyclegan.serving.server import bind
    from cyclegan.serving.settings import ServeSettings

    token = parsed.token if parsed.token is not None else os.environ.get("CYCLEGAN_TOKEN") or None
    settings = ServeSettings(
        host=parsed.host,
        port=DEFAULT_PORT if parsed.port is None else parsed.port,
        token=token,
        allowed_hosts=tuple(parsed.allowed_host or ()),
    )
    settings.check(lambda field: f"--{field.replace('_', '-')}")
    if token is None and not settings.is_loopback:
        raise InputError(
            f"--host {settings.host} lets other computers in, and the page shows images and runs; give a --token as "
            "well, or set CYCLEGAN_TOKEN."
        )
    if parsed.port is not None:
        return settings
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _MOST_TRIES):
        try:
            bind(replace(settings, port=port)).close()
        except InputError:
            continue
        if port != DEFAULT_PORT:
            say(f"Port {DEFAULT_PORT} is in use, so the studio takes {port}.")
        return replace(settings, port=port)
    return settings  # whose error is then reported


def _has_browser() -> bool:
    """Whether somebody sits at this computer's screen: not in scripts, and not over ssh."""
    if not (sys.stdin is not None and sys.stdin.isatty()) or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _announce(address: str, settings: "ServeSettings", *, opens: bool) -> None:
    import webbrowser

    from cyclegan.system.terminal import print_result

    asks = " Its page asks for the token." if settings.token else ""
    say(f"The studio is open.{asks} Ctrl-C closes it after the images that are being translated, again at once.")
    print_result(address)
    if opens:
        webbrowser.open(address)
