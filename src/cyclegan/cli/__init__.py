"""The command line: one module for each subcommand. Heavy imports wait until a command runs."""

import argparse
import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from cyclegan._version import __version__
from cyclegan.cli import (
    bench,
    compare,
    demo,
    download,
    evaluate,
    export,
    import_reference,
    inspect,
    push,
    report,
    serve,
    studio,
    tiles,
    train,
    translate,
    vrt,
)
from cyclegan.cli.arguments import home_path
from cyclegan.errors import CycleganError, InputError, brief, reason_of, remedy_of
from cyclegan.system.advice import flags_of_command
from cyclegan.system.json_files import shown
from cyclegan.system.signals import AnnouncedStop, signals_interrupt
from cyclegan.system.terminal import ClosedOutputError, flush_or_drop, say

# In the order of the help text. Each module has SUMMARY, EXAMPLES, add_arguments(parser) and run(parsed).
COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "translate": translate,
    "serve": serve,
    "studio": studio,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "inspect": inspect,
    "vrt": vrt,
    "bench": bench,
    "import": import_reference,
    "export": export,
    "push": push,
    "download": download,
    "tiles": tiles,
    "demo": demo,
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs of the description and the epilog; examples, which are indented, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        def fill(lines: list[str]) -> str:
            raw = lines[0].endswith(":") or lines[0].startswith(" ")
            return "\n".join(lines) if raw else super_fill(" ".join(lines), width, indent)

        super_fill = argparse.HelpFormatter("")._fill_text
        return "\n\n".join(fill(paragraph.splitlines()) for paragraph in text.split("\n\n"))


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, with the nearest flag for an unknown one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._given: list[str] = []
        # argparse takes negative numbers with an exponent for flags: --nodata -3.4028235e+38 is common for elevations.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse takes the -- of `--device=--` for the end of the flags, and gives an empty list for the value.
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            raise argparse.ArgumentError(action, "the value is '--'; expected one argument")
        return super()._get_values(action, arg_strings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = [] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):  # a flag of another program may be the reason
            words = [word.partition("=")[0] for word in self._given if word.startswith("--") and word != "--"]
            unknown = [word for word in words if word not in self._option_string_actions]
            message = f"unrecognized arguments: {' '.join(unknown)}" if unknown else message
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if message.startswith("unrecognized") and unknown and unknown[0].startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            flag = unknown[0].partition("=")[0]
            message = f"there is no flag {unknown[0]}"
            if (theirs := self._of_reference(flag, flags)) is not None:
                message += theirs
            elif nearest := difflib.get_close_matches(flag, flags, n=1):
                message += f"; did you mean {nearest[0]}?"
        if command := re.match(r"argument COMMAND: invalid choice: '(.*)' \(choose from ", message, re.DOTALL):
            nearest = difflib.get_close_matches(command[1], COMMANDS, n=1)
            message = f"there is no command {shown(command[1])}; " + (
                f"did you mean {nearest[0]}?" if nearest else f"choose one of: {', '.join(COMMANDS)}"
            )
        say(f"cyclegan: {brief(message)}")
        say(f"See: {self.prog} --help")
        raise SystemExit(2)

    def _of_reference(self, flag: str, flags: Sequence[str]) -> str | None:
        """What to do instead of this option of the reference implementation; None if it is none, or is a typing error.

        Flags such as --model, which a command has, never come here.
        """
        from cyclegan.reference.options import answer

        takes_run = any(action.dest == "run_directory" for action in self._actions)
        return answer(flag.removeprefix("--"), self.prog.rpartition(" ")[2], flags, takes_run=takes_run)


def _wait_briefly() -> None:
    """Make torch's threads yield their core after waiting briefly for each other, unless the user has set a policy.

    By default they spin so long that, beside a busy program, they hold the core that the other thread needs. libgomp
    reads this when torch is imported, which no command has done yet.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the command `cyclegan`.

    Exits with 0 after success, 2 after an InputError, 1 after any other error, 130 after Ctrl-C, SIGTERM or SIGHUP.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _wait_briefly()
    with signals_interrupt() as stopped:
        try:
            _run(arguments)
        except InputError as error:
            if not error.is_said:
                say(f"cyclegan: {error}")
            raise SystemExit(2) from None
        except KeyboardInterrupt as stop:
            if not isinstance(stop, AnnouncedStop):
                say(str(stop) or "Stopped.")
            raise SystemExit(130) from None
        except ClosedOutputError:
            raise SystemExit(1) from None
        except (CycleganError, OSError) as error:  # any other is a bug and keeps its traceback
            if not getattr(error, "is_said", False):
                say(f"cyclegan: {_sentence(error)}")
            raise SystemExit(1) from None
        except Exception:
            if not stopped():
                raise
            say("Stopped.")
            raise SystemExit(130) from None
        finally:
            flush_or_drop()


def _run(arguments: Sequence[str]) -> None:
    parser = _parser(arguments)
    parsed, unknown = parser.parse_known_args(arguments)
    # argparse takes the folders of `train A --steps 9 B` for one argument and a stray one.
    if unknown and hasattr(parsed, "paths") and not any(word.startswith("-") for word in unknown):
        parsed.paths += [home_path(word) for word in unknown]
    elif unknown:  # the subcommand reports it, because it has the flags
        command = getattr(parsed, "command_parser", parser)
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    flags = {flag for action in parsed.command_parser._actions for flag in action.option_strings}
    with _quiet_readers(), flags_of_command(flags):
        parsed.run(parsed)


@contextmanager
def _quiet_readers() -> Iterator[None]:
    """In the block, libraries that read files keep to themselves what they found unusual in them."""
    loggers = [logging.getLogger(name) for name in ("nibabel.global", "tifffile")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pydicom\b")
            warnings.filterwarnings("ignore", module=r"PIL\b")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _sentence(error: CycleganError | OSError) -> str:
    """What an error says; of one that the disk caused, the place, the reason and the remedy."""
    if isinstance(error, OSError) and error.filename is not None:
        remedy = remedy_of(error)
        return brief(f"{error.filename}: {reason_of(error)}{f'; {remedy}' if remedy else ''}.")
    return brief(error)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cyclegan",
        description="Unpaired image-to-image translation: two folders of images in, two translators out.",
        epilog="examples:\n  cyclegan demo\n  cyclegan train photos/ maps/ --out runs/maps\n"
        "  cyclegan translate runs/maps photo.jpg --out translated/",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"cyclegan {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        sub: _Parser = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=module.EXAMPLES,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=module.run, command_parser=sub)
        if module is train:  # its help shows the defaults of the given preset and file
            train.add_arguments(sub, arguments)
        else:
            module.add_arguments(sub)
    return parser
