"""Quality of recipes: train each on several tasks with several seeds, score held-out images, compare with `paper`.

Every run trains and is scored in a separate process, and its scores are added to the results as soon as it ends.
Finished runs are skipped and stopped ones resumed, so the same command continues a benchmark, even later in another
checkout. With --minutes all recipes get the same time: the step of each is timed first, against that of another recipe
of the label and on all cores in use, and a run gets the number of steps that fit. Load on the machine does not change
that number.

    python benchmarks/quality.py --minutes 2 --jobs 2 --label ablation --recipes paper paper+contrastive paper+noise
    python benchmarks/quality.py --minutes 10 --split test --label test --recipes paper modern conservative
    python benchmarks/quality.py --steps 20 --seeds 0 --tasks etopo1 --label trial --recipes paper
"""

import argparse
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits import class_errors
from machine import describe_machine
from pydantic import Field
from recipes import CHECKOUTS, PEERS, preset_of, resolve
from tables import BASELINES, markdown
from tasks import BY_CLASS, TASKS

from cyclegan.config import Config, FlagText, flat_values, make_config
from cyclegan.errors import InputError
from cyclegan.storage.scores import Scores, read_scores
from cyclegan.system.atomic import write_bytes
from cyclegan.system.prefetch import num_cores

HERE = Path(__file__).parent

# Settings that have their own option here, or follow from one.
OWN = ("a", "b", "test_a", "test_b", "out", "preset", "seed", "device", "threads", "steps", "epochs", "minutes")

# The networks and images of all recipes, unless --set says otherwise: those of the demo at 64 pixels.
SMALL = {
    "precision": "fp32",
    "crop_size": 64,
    "width": 16,
    "blocks": 4,
    "discriminator_width": 16,
    "discriminator_layers": 2,
}

# Outputs that take time and are not used.
BARE = {"num_validation": 0, "num_samples": 0, "tensorboard": False, "sample_steps": 10**9, "checkpoint_minutes": 5.0}

# Warm-up steps before timing.
WARM_UP = 10


class Run(Config):
    """One finished run, as run.json beside its scores describes it.

    settings: those that differ from the preset. beyond_paper: those that differ from `paper`, because presets may
    change later; old runs do not have it. class_error: of each direction, for tasks whose truth is a class.
    """

    task: str
    recipe: str
    seed: int
    split: str
    settings: dict[str, Any]
    beyond_paper: dict[str, Any] | None = None
    # Of a method of benchmarks/peers.py, the commit of its checkout.
    code: str | None = None
    device: str
    steps: int
    step_seconds: float | None
    threads: int
    machine: str
    command: str
    class_error: dict[str, dict[str, float]] = Field(default_factory=dict)


# ---- one run, in a separate process


def train_and_score(job: dict[str, Any]) -> None:
    """Train or resume, score, and finally write run.json, which marks the run as complete."""
    import torch

    import cyclegan

    data, out = Path(job["data"]), Path(job["out"])
    if job["checkout"] is not None:
        import peer_code

        peer_code.train(job)
    else:
        settings = {**BARE, **job["settings"], "steps": job["steps"]}
        cyclegan.train(
            data / "trainA",
            data / "trainB",
            preset=preset_of(job["recipe"]),
            out=out,
            seed=job["seed"],
            device=job["device"],
            **settings,
        )
    split = job["split"]
    is_paired = job["task"] not in BY_CLASS
    cyclegan.evaluate(out, a=data / f"{split}A", b=data / f"{split}B", paired=is_paired, device=job["device"])
    kept = {name: job[name] for name in Run.model_fields if name in job}
    if not is_paired:
        kept["class_error"] = class_errors(out, data, split, job["device"])
    run = Run(**kept, threads=torch.get_num_threads(), machine=describe_machine(job["device"]))
    write_bytes(out / "run.json", (run.model_dump_json(indent=1) + "\n").encode())


def time_steps(job: dict[str, Any]) -> list[float]:
    """Seconds of a training step of each of two recipes: medians over rounds that alternate in this process.

    A machine that becomes slower then does so for both.
    """
    steps = []
    for recipe, settings in job["recipes"]:
        if checkout := job["checkouts"].get(recipe):
            import peer_code

            steps.append(peer_code.timed_step(recipe, settings, job["device"], Path(checkout)))
        else:
            steps.append(timed_step(recipe, settings, job["device"]))
        for _ in range(WARM_UP):
            steps[-1]()
    seconds: list[list[float]] = [[] for _ in steps]
    begun = time.perf_counter()
    while time.perf_counter() - begun < job["timed_seconds"]:
        for step, taken in zip(steps, seconds, strict=True):
            started = time.perf_counter()
            # R1 is computed every 16th step, so each round is a multiple of that.
            for _ in range(16):
                loss = step()
            loss.item()  # waits for the GPU
            taken.append((time.perf_counter() - started) / 16)
    return [statistics.median(taken) for taken in seconds]


def timed_step(recipe: str, settings: dict[str, Any], device: str) -> Callable[[], Any]:
    """A training step of a recipe on random images, which returns one of its losses."""
    import torch

    from cyclegan.step import TrainState
    from cyclegan.step.cuda_graphs import make_step
    from cyclegan.step.precision import resolve_precision

    place = torch.device(device)
    config = make_config({**settings, "steps": 10**6}, preset=preset_of(recipe))
    config = config.replace(precision=resolve_precision(config, place).precision)
    state = TrainState.create(config, place)
    size = config.data.crop_size
    shapes = [(config.batch_size, c, size, size) for c in (config.model.channels_a, config.model.channels_b)]
    images = [torch.rand(shape, device=place) * 2 - 1 for shape in shapes]
    step = make_step(state)
    return lambda: step(state, *images)["cycle_a"]


# ---- all runs


def start_job(kind: str, job: dict[str, Any], at_once: int, **pipes: Any) -> subprocess.Popen[bytes]:
    """Start a process for a job, with its share of the cores."""
    command = [sys.executable, __file__, kind, json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, num_cores() // at_once))}
    # In a new session: a second signal, from the terminal, would stop it without saving.
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, **pipes)


def work_through(jobs: list[dict[str, Any]], at_once: int) -> Generator[tuple[dict[str, Any], bool], None, None]:
    """Do the jobs, `at_once` of them at a time. Yields each one as it ends, and whether it succeeded.

    If this process is stopped, the runs save what they have and stop too.
    """
    waiting = list(jobs)
    running: dict[subprocess.Popen[bytes], dict[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                Path(job["log"]).parent.mkdir(parents=True, exist_ok=True)
                with Path(job["log"]).open("a") as log:
                    running[start_job("--job", job, at_once, stdout=log, stderr=log)] = job
            time.sleep(0.5)
            for process in [process for process in running if process.poll() is not None]:
                yield running.pop(process), process.returncode == 0
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def time_recipes(
    settings: dict[str, dict[str, Any]], options: argparse.Namespace, file: Path, done: list[dict[str, Any]]
) -> dict[str, float]:
    """Seconds of a step of each recipe, with as many others running beside it as during training.

    A recipe is timed beside another one, and gets the known seconds of that one times their ratio. Results are kept in
    `file` for the same settings, device and number of runs at once. Recipes in `done`, the finished runs, keep theirs.
    """

    def measured(recipe: str) -> dict[str, Any]:
        return {"settings": settings.get(recipe), "device": options.device, "jobs": options.jobs}

    kept: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    known: dict[str, float] = {
        recipe: timing["seconds"] for recipe, timing in kept.items() if timing["of"] == measured(recipe)
    }
    known |= {run["recipe"]: run["step_seconds"] for run in done if run["step_seconds"] is not None}
    # Against a recipe with known seconds, so that recipes that are added later get the same time.
    candidates = {**settings, **{run["recipe"]: run["settings"] for run in done}}
    first = next((recipe for recipe in candidates if recipe in known), next(iter(settings)))
    for recipe in settings:
        if recipe not in known:
            job = {"recipes": [(name, candidates[name]) for name in dict.fromkeys((first, recipe))]}
            job |= {"device": options.device, "timed_seconds": options.timed_seconds, "checkouts": options.checkouts}
            processes = [start_job("--time", job, options.jobs, stdout=subprocess.PIPE) for _ in range(options.jobs)]
            printed = [process.communicate()[0] for process in processes]
            if any(process.returncode for process in processes):
                raise InputError(f"The step of {recipe} cannot be timed; see above.")
            found = [json.loads(text.splitlines()[-1]) for text in printed]
            factor = statistics.geometric_mean(taken[-1] / taken[0] for taken in found)
            known[recipe] = factor * known.get(first, statistics.mean(taken[0] for taken in found))
            kept[recipe] = {"seconds": known[recipe], "of": measured(recipe)}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, (json.dumps(kept, indent=1) + "\n").encode())
            print(f"{recipe}: {known[recipe]:.4f} s a step", file=sys.stderr)
    return known


def collect(folder: Path) -> list[tuple[Run, Scores]]:
    """Read all finished runs below the folder of a label, by task, recipe and seed."""
    files = sorted(folder.glob("*/*/seed*/run.json"))
    found = [(Run.model_validate_json(file.read_text()), read_scores(file.parent)) for file in files]
    return sorted(found, key=lambda pair: (list(TASKS).index(pair[0].task), pair[0].recipe, pair[0].seed))


# ---- the results


# Fields with the same value in many runs of a label. A file holds each value once; runs refer to it by number.
SHARED = ("settings", "beyond_paper", "machine", "command", "weights", "features", "baselines")


def to_json(runs: list[tuple[Run, Scores]]) -> list[dict[str, Any]]:
    """The results of each run: scores of both directions and their baselines, to eight digits.

    The intervals, the scores of single images and the lists of files stay in the run's own scores.json.
    """

    def short(value: float) -> float:
        return float(f"{value:.8g}")

    results = []
    for run, scores in runs:
        values: dict[str, dict[str, float]] = {}
        baselines: dict[str, dict[str, dict[str, float]]] = {}
        for direction, found in scores.directions.items():
            values[direction] = {name: short(score.value.value) for name, score in found.metrics.items()}
            baselines[direction] = {
                name: {
                    kind: short(baseline.value) for kind in BASELINES if (baseline := getattr(score, kind)) is not None
                }
                for name, score in found.metrics.items()
            }
            if direction in run.class_error:
                error = {kind: short(value) for kind, value in run.class_error[direction].items()}
                values[direction]["class_error"] = error.pop("value")
                baselines[direction]["class_error"] = error
        features = scores.features.model_dump(mode="json")
        about = {"weights": scores.weights, "features": features, "baselines": baselines}
        results.append({**run.model_dump(mode="json", exclude={"class_error"}), **about, "scores": values})
    return results


@dataclass(frozen=True)
class Page:
    """A page of results, NAME.md, made of the runs of each label in NAME/LABEL.json."""

    name: str
    markdown: Callable[[dict[str, list[dict[str, Any]]]], str]


QUALITY = Page("quality", markdown)


def read_results(folder: Path, page: Page = QUALITY) -> dict[str, list[dict[str, Any]]]:
    """Read the runs of each label, by the name of the label."""
    labels = {}
    for file in sorted((folder / page.name).glob("*.json")):
        held = json.loads(file.read_text())
        for run in held["runs"]:
            run |= {name: held["shared"][name][run[name]] for name in SHARED}
        labels[file.stem] = held["runs"]
    return labels


def merge(*several: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs by task, recipe and seed; later ones replace earlier ones."""
    found = {(run["task"], run["recipe"], run["seed"]): run for runs in several for run in runs}
    return [found[key] for key in sorted(found, key=lambda key: (list(TASKS).index(key[0]), *key[1:]))]


def write_results(folder: Path, label: str, finished: list[tuple[Run, Scores]], page: Page = QUALITY) -> None:
    """Add runs to those of a label, and write the page from all labels."""
    labels = read_results(folder, page)
    labels[label] = merge(labels.get(label, []), to_json(finished))
    write_label(folder / page.name / f"{label}.json", labels[label])
    write_bytes(folder / f"{page.name}.md", page.markdown(labels).encode())


def write_label(file: Path, runs: list[dict[str, Any]]) -> None:
    """Write the runs of a label, with a line for each run."""
    shared: dict[str, list[Any]] = {name: [] for name in SHARED}
    lines = []
    for run in runs:
        numbers = {}
        for name, values in shared.items():
            if run[name] not in values:
                values.append(run[name])
            numbers[name] = values.index(run[name])
        lines.append(json.dumps({**run, **numbers}))
    rows = ",\n".join(lines)
    text = f'{{"shared": {json.dumps(shared, indent=1)},\n"runs": [\n{rows}\n]}}\n'
    write_bytes(file, text.encode())


# ---- the command


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        train_and_score(json.loads(options.job))
    elif options.time:
        print(json.dumps(time_steps(json.loads(options.time))))
    else:
        run(parser, options, QUALITY)


def make_parser(
    doc: str | None, label: str = "recipes", recipes: Sequence[str] = ("paper",)
) -> argparse.ArgumentParser:
    """The options of this command, which benchmarks/peers.py has, too. label, recipes: their defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="minutes of training of each run, as steps that take so long")
    length.add_argument("--steps", type=int, help="or its steps")
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=list(recipes),
        help=f"presets, +ingredient, -ingredient (default: {' '.join(recipes)})",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS), help="default: all")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="what is scored (default: val)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings over those of the presets, by the names of cyclegan train: crop_size=128 width=32",
    )
    parser.add_argument(
        "--timed-seconds",
        type=float,
        default=12.0,
        help="over which the step of a recipe is timed against that of another one (default: 12)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps (default: cpu)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--label", default=label, help=f"name of these runs in the results (default: {label})")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="data and runs (default: benchmarks/work)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="default: benchmarks/results")
    # Folders and commits of the methods of benchmarks/peers.py, by name.
    parser.set_defaults(checkouts={}, code={})
    return parser


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, page: Page) -> None:
    """Check the options and do the benchmark, or end with a message."""
    if options.minutes is None and options.steps is None:
        parser.error("give --minutes or --steps")
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}; expected at least 1")
    # Make a kill run the clean-up of work_through, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        benchmark(options, page)
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Stopped; the same command continues.", file=sys.stderr)
        raise SystemExit(130) from None


def check_same_kind(done: list[dict[str, Any]], common: dict[str, Any], options: argparse.Namespace) -> None:
    """Stop unless the runs that a label has already can be compared with the new ones."""
    for run in done:
        recipe = run["recipe"]
        had = (run["settings"], run["split"], run["device"], run["step_seconds"] is not None)
        asked = (resolve(recipe, common), options.split, options.device, options.minutes is not None)
        if had != asked:
            told = [
                f"{settings} on {device}, of equal {'minutes' if timed else 'steps'}, scored on {split}"
                for settings, split, device, timed in (had, asked)
            ]
            raise InputError(
                f"{options.label} has runs of {recipe} with {told[0]}, not {told[1]}; choose another --label."
            )
        if run.get("beyond_paper") not in (None, beyond_paper(recipe, asked[0])):
            raise InputError(
                f"{options.label} has runs of {recipe} from when it was {run['beyond_paper']}; choose another --label."
            )
        if recipe in options.code and run["code"] != options.code[recipe]:
            raise InputError(
                f"{options.label} has runs of {recipe} of the code {run['code']}, not {options.code[recipe]}; "
                "choose another --label."
            )


def beyond_paper(recipe: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The settings in which a recipe differs from `paper`, except for the name of its preset and the precision.

    None for other methods.
    """
    if recipe in PEERS:
        return None
    paper = flat_values(make_config(preset="paper"))
    values = flat_values(make_config(settings, preset=preset_of(recipe)))
    return {
        name: value for name, value in values.items() if name not in ("preset", "precision") and value != paper[name]
    }


def benchmark(options: argparse.Namespace, page: Page) -> None:
    """Make the data, do the missing runs, and write the results after each of them."""
    label, work = options.label, options.work.resolve()
    if not re.fullmatch(r"[\w.-]+", label):
        raise InputError(f"The label {label!r} names a folder; use letters, digits, dots, dashes and underscores.")
    common = {**SMALL, **read_settings(options.set)}
    for recipe in options.recipes:
        if recipe in PEERS and recipe not in options.checkouts:
            name = PEERS[recipe].checkout
            raise InputError(
                f"{recipe} is trained by the code of its authors; give benchmarks/peers.py a checkout of "
                f"{CHECKOUTS[name]}, as {name}=DIR."
            )
    settings = {recipe: resolve(recipe, common) for recipe in dict.fromkeys(options.recipes)}
    # The images have the training size already, so nothing is resized twice.
    size = make_config(common).data.resolved_load_size
    folder = work / label
    done = merge(read_results(options.results, page).get(label, []), to_json(collect(folder)))
    check_same_kind(done, common, options)
    seconds: dict[str, float] = {}
    if options.minutes is not None:
        # Later seeds get as many steps as the first ones, even if the machine is faster then.
        seconds = time_recipes(settings, options, folder / "timings.json", done)

    jobs = []
    complete = {(run["recipe"], run["task"], run["seed"]) for run in done}
    for seed in dict.fromkeys(options.seeds):  # seeds first: all recipes finish a seed before the next one
        for recipe, task in ((recipe, task) for recipe in settings for task in dict.fromkeys(options.tasks)):
            if (recipe, task, seed) in complete:
                continue
            data = work / "data" / f"{task}-{size}"
            if not (data / "about.json").is_file():
                TASKS[task](data, size)
            place = folder / task / recipe
            jobs.append(
                {
                    "task": task,
                    "recipe": recipe,
                    "seed": seed,
                    "split": options.split,
                    "settings": settings[recipe],
                    "beyond_paper": beyond_paper(recipe, settings[recipe]),
                    "checkout": options.checkouts.get(recipe),
                    "code": options.code.get(recipe),
                    "device": options.device,
                    "steps": options.steps or max(1, round(60 * options.minutes / seconds[recipe])),
                    "step_seconds": seconds.get(recipe),
                    "command": command_line(),
                    "data": str(data),
                    "out": str(place / f"seed{seed}"),
                    "log": str(place / f"seed{seed}.log"),
                }
            )

    for run in done:
        if run["recipe"] in settings:
            steps = options.steps or max(1, round(60 * options.minutes / seconds[run["recipe"]]))
            if run["steps"] != steps:
                raise InputError(
                    f"{label} has runs of {run['recipe']} of {run['steps']} steps, not {steps}; choose another --label."
                )

    print(f"{len(done)} runs are complete, {len(jobs)} to do, logs in {folder}", file=sys.stderr)
    if done:
        write_results(options.results, label, collect(folder), page)

    num_failed = 0
    with closing(work_through(jobs, options.jobs)) as ended:
        for job, good in ended:
            name = f"{job['recipe']} on {job['task']}, seed {job['seed']}"
            print(f"{name}: {'done' if good else 'failed'}", file=sys.stderr)
            if good:
                write_results(options.results, label, collect(folder), page)
            else:
                num_failed += 1
                lines = Path(job["log"]).read_text().splitlines() or ["it said nothing"]
                print(f"  {lines[-1]}\n  all of it: {job['log']}", file=sys.stderr)
    print(options.results / f"{page.name}.md")
    if num_failed:
        raise SystemExit(1)


def command_line() -> str:
    """The command of this process without its paths, which belong to this machine."""
    given = sys.argv[1:]
    kept = [
        re.sub(rf"^({'|'.join(CHECKOUTS)})=.*", r"\1=DIR", argument)
        for before, argument in zip(["", *given], given, strict=False)
        if not {before, argument} & {"--work", "--results"} and not argument.startswith(("--work=", "--results="))
    ]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """Settings from words NAME=VALUE, checked and converted by the configuration."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, not {pair!r}.")
        if name in OWN:
            raise InputError(f"--set cannot change {name}: it follows from the options of this benchmark.")
        given[name] = FlagText(value)
    values = flat_values(make_config({**SMALL, **given}))
    return {name: values[name] for name in given}


if __name__ == "__main__":
    main()
