"""Translate a command for train.py or test.py of the reference into commands of `cyclegan`, or say why it cannot be."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig, flags_of, flat_values, make_config, read_config_file, saved_config
from cyclegan.errors import InputError
from cyclegan.reference.command import Command, read_command
from cyclegan.reference.options import OPTIONS
from cyclegan.system.terminal import printable, shell_quote

Words = tuple[str, ...]


@dataclass(frozen=True)
class Equivalent:
    """commands: each one a list of words, to be run in this order. notes: sentences on what differs.

    environment: NAME=VALUE words that stand before each command.
    """

    commands: tuple[Words, ...]
    notes: tuple[str, ...]
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        # NAME='VALUE': a shell takes 'NAME=VALUE' for a command.
        pairs = [word.partition("=") for word in self.environment]
        before = "".join(f"{name}={_quote(value)} " for name, _, value in pairs)
        return "\n".join(before + " ".join(map(_quote, words)) for words in self.commands)


def translate_reference(command: str) -> Equivalent:
    """The commands of this program that do what `command`, a whole command line of the reference, does.

    Values are those that make the result equal, defaults of the reference included.
    Raises InputError, with a sentence for every reason, if the command cannot be parsed or has no equivalent here.
    """
    read = read_command(command)
    if read["model"] == "test" and read.script == "train":
        read.problem("test_model")
    elif read["model"] not in ("cycle_gan", "test"):
        read.problem("other_model")
    if read["dataroot"] is None:
        read.problem("no_dataroot")
        read.values["dataroot"] = "."
    checkpoint = _find_checkpoint(read)
    commands = _train(read, checkpoint) if read.script == "train" else _test(read, checkpoint)
    if read.problems:
        raise InputError("\n".join(map(printable, read.problems)))

    unneeded: dict[str, list[str]] = {}
    for option in OPTIONS:
        if option.name in read.given and (option.status == "not needed" or not read.has_effect(option)):
            unneeded.setdefault(option.note, []).append(option.name)
    for reason, names in unneeded.items():
        read.leave_out(names, reason)
    return Equivalent(tuple(("cyclegan", *words) for words in commands), tuple(read.notes), read.environment)


@dataclass(frozen=True)
class _Checkpoint:
    """The checkpoint that a command names.

    name: of the run, with its suffix. theirs: the folder of the reference. which: the epoch, latest, or iter_STEP.
    run: the run of this program with that name, or None: in the folder of the reference, or where --continue_train
    puts it. model: where an import writes it.
    """

    name: str
    theirs: str
    which: str
    run: str | None
    model: str

    @property
    def import_words(self) -> Words:
        epoch = () if self.which == "latest" else ("--epoch", self.which)
        return ("import", self.theirs, "--out", self.model, *epoch)


def _find_checkpoint(read: Command) -> _Checkpoint:
    def value(match: re.Match[str]) -> str:
        if match[1] not in read.values:
            read.problem("suffix", match=match[0])
        return str(read.values.get(match[1], ""))

    suffix = re.sub(r"{(\w+)}", value, read["suffix"])
    name = f"{read['name']}_{suffix}" if suffix else str(read["name"])
    theirs = _join(read["checkpoints_dir"], name)
    which = f"iter_{read['load_iter']}" if read["load_iter"] > 0 else str(read["epoch"])
    places = (place for place in (theirs, f"runs/{name}") if (Path(place).expanduser() / "config.toml").is_file())
    return _Checkpoint(
        name, theirs, which, next(places, None), f"models/{name}" if which == "latest" else f"models/{name}_{which}"
    )


# ---- train.py


def _train(read: Command, checkpoint: _Checkpoint) -> list[Words]:
    if read["dataset_mode"] != "unaligned":
        read.problem("not_unaligned")
    theirs, run = checkpoint.theirs, checkpoint.run
    out, before, more, saved = theirs, [], [], None
    if read["use_wandb"]:
        more += ["--wandb", read["wandb_project_name"]]
    if read["continue_train"] and run is not None:
        out, saved = run, saved_config(read_config_file(Path(run).expanduser() / "config.toml"))
        more += _resume(read, run, theirs, saved)
    elif read["continue_train"]:
        out, before = f"runs/{checkpoint.name}", [checkpoint.import_words]
        more += ["--init-from", checkpoint.model]
        read.note("imported", theirs=theirs, out=out)
    paths, tests = _folders(read)
    settings = _settings(read) | _length(read) | tests
    settings |= {"device": _device(read), "num_validation": 0}
    read.note("all_images")
    if read["input_nc"] != read["output_nc"] and read["lambda_identity"] > 0:
        read.note("no_identity")
    try:
        make_config(settings, preset="paper")
    except InputError as error:
        if not read.problems:  # else it would only repeat one of them
            read.problem("refused", error=error)
    return [*before, ("train", *paths, "--out", out, "--preset", "paper", *_flags(settings, saved), *more)]


def _settings(read: Command) -> dict[str, Any]:
    """The settings of all options that have one of their own, by the table, and of those that depend on each other."""
    settings: dict[str, Any] = {}
    for option in OPTIONS:
        if not option.in_command("train") or not read.has_effect(option):
            continue
        value = read[option.name]
        if note := option.value_notes.get(value):
            read.notes.append(f"--{option.name} {value}: {note}")
        if option.kind == "flag":
            value = option.values.get("true", {}) if value else {}
        elif option.per_batch:
            value = _steps(read, value)
        else:
            value = option.values.get(value, value)
        settings |= value if isinstance(value, dict) else {option.setting: value} if option.setting else {}
    if shown := read.given_of("display_freq", "update_html_freq"):
        settings["sample_steps"] = _steps(read, min(read[name] for name in shown))
    if "display_freq" in read.given:
        read.note("both_freqs" if len(shown) > 1 else "display_freq")

    # The reference makes no crop that is larger than the image: the crop is the whole image.
    load, crop, preprocess = read["load_size"], read["crop_size"], read["preprocess"]
    if preprocess == "resize_and_crop" and load < crop:
        read.note("no_crop")
        crop = load
    return settings | {"crop_size": crop, "load_size": None if preprocess in ("crop", "none") else load}


def _steps(read: Command, images: int) -> int:
    return max(1, round(images / max(1, int(read["batch_size"]))))


def _length(read: Command) -> dict[str, Any]:
    """Epochs and learning rates: theirs from epoch_count to n_epochs + n_epochs_decay, one rate for each epoch."""
    constant, decay, first = read["n_epochs"], read["n_epochs_decay"], read["epoch_count"]
    policy, drop = read["lr_policy"], read["lr_decay_iters"]
    epochs = constant + decay + 1 - first
    length: dict[str, Any] = {"epochs": epochs}
    if min(constant, decay) < 0 or first < 1 or epochs < 1:
        read.problem("no_epochs")
        return {}
    if policy == "step" and drop < 1:
        read.problem("no_drop")
    elif policy == "step" and drop >= epochs:
        read.note("late_drop", epochs=epochs)
        length["schedule"] = "constant"
    elif policy == "step":
        length["drop_share"] = drop / epochs
    elif policy == "cosine" and (decay > 0 or first > 1):
        read.problem("cosine")
    elif policy != "cosine" and epochs >= decay:  # the share with as few digits as give the same number of epochs
        shares = (round(decay / epochs, digits) for digits in range(1, 18))
        length["decay_share"] = next(share for share in shares if round(share * epochs) == decay)
    elif policy != "cosine":  # it begins in the middle of the decay: less of it, from a lower rate
        rate = read["lr"] * (epochs + 1) / (decay + 1)
        length |= {"decay_share": 1.0, "learning_rate": float(f"{rate:.12g}")}
    return length


def _folders(read: Command) -> tuple[Words, dict[str, Any]]:
    """The folders of a train command, a root or both by name, and the test folders that a root does not imply."""
    swapped = read["direction"] == "BtoA"
    if read["phase"] == "train" and not swapped:
        return (read["dataroot"],), {}
    a, b = _both(read, read["phase"])
    if swapped:
        read.note("swapped", a=a, b=b)
    test_a, test_b = _both(read, "test")
    there = Path(test_a).is_dir() and Path(test_b).is_dir()
    return (a, b), {"test_a": test_a, "test_b": test_b} if there else {}


def _both(read: Command, phase: str) -> Words:
    return tuple(_join(read["dataroot"], phase + letter) for letter in ("BA" if read["direction"] == "BtoA" else "AB"))


def _flags(settings: dict[str, Any], saved: TrainConfig | None = None) -> list[str]:
    """Flags for the settings that are not what they are by default, nor in the run that the command resumes."""
    usual = flat_values(TrainConfig())
    usual["load_size"] = make_config({"crop_size": settings["crop_size"]}).data.resolved_load_size
    # A resumed run keeps what is not given, and their options have their defaults instead.
    kept = usual
    if saved is not None:
        kept = flat_values(saved) | {"load_size": saved.data.resolved_load_size}
        switched = {name for option in OPTIONS if option.kind == "flag" for name in option.values.get("true", {})}
        settings = {name: usual[name] for name in switched} | settings
    same = {name for name, value in settings.items() if value == usual[name] == kept[name]}
    return flags_of({name: value for name, value in settings.items() if name not in same})


def _resume(read: Command, run: str, theirs: str, saved: TrainConfig) -> list[str]:
    """Flags that resume a run of ours, which counts its own epochs; sets epoch_count to where it began."""
    also = f"; the checkpoint in {theirs} is not used again" if run != theirs else ""
    read.note("resumed", run=run, also=also)
    if names := read.given_of("epoch_count", "epoch", "load_iter"):
        read.leave_out(names, "the run records where it stopped.")
    read.values["epoch_count"] = 1
    if run == theirs:
        return ["--resume"]
    # It may have begun late: it keeps its length, whatever epoch a further command names.
    total = read["n_epochs"] + read["n_epochs_decay"]
    if saved.epochs is not None and saved.epochs.is_integer() and saved.epochs < total:
        read.values["epoch_count"] = total + 1 - int(saved.epochs)
        read.note("keeps_length", run=run, epochs=saved.epochs)
    if saved.init_from is None:
        return ["--resume"]
    start, here = saved.init_from, Path.cwd()  # runs keep whole paths
    return ["--init-from", str(start.relative_to(here) if start.is_relative_to(here) else start), "--resume"]


# ---- test.py


def _test(read: Command, checkpoint: _Checkpoint) -> list[Words]:
    single = read["model"] == "test"
    expected = "single" if single else "unaligned"
    if read["dataset_mode"] != expected and "dataset_mode" in read.given:
        read.problem("other_dataset_mode", expected=expected)
    kept = _kept_model(read, checkpoint)

    flags = _seen_size(read)
    most = min(read[name] for name in ("num_test", "max_dataset_size") if read[name] is not None)
    if most < 1:
        read.problem("no_images", most=most)
    flags += ["--max-images", str(most)]
    device = _device(read)
    flags += ["--device", device] if device != "auto" else []
    if names := read.given_of(*(option.name for option in OPTIONS if option.in_model)):
        read.leave_out(names, "a saved model records its networks.")

    out = _join(read["results_dir"], checkpoint.name, f"{read['phase']}_{read['epoch']}")
    out += f"_iter{read['load_iter']}" if read["load_iter"] > 0 else ""
    if single:
        suffixes = {"": "a2b", "_A": "a2b", "_B": "b2a"}
        if read["model_suffix"] not in suffixes:
            read.problem("other_suffix")
        ways = [(read["dataroot"], suffixes.get(read["model_suffix"], "a2b"), "fake_B")]
    else:
        if "model_suffix" in read.given:
            read.problem("no_suffix")
        a, b = _both(read, read["phase"])
        ways = [(a, "a2b", "fake_B"), (b, "b2a", "fake_A")]
    commands = [
        ("translate", kept or checkpoint.model, images, "--out", _join(out, fake), "--direction", direction, *flags)
        for images, direction, fake in ways
    ]
    return commands if kept else [checkpoint.import_words, *commands]


def _seen_size(read: Command) -> list[str]:
    """Flags for the size at which the network sees the images."""
    size, preprocess = read["load_size"], read["preprocess"]
    if preprocess == "crop":
        read.note("test_crop")
    elif preprocess.endswith("crop") and size > read["crop_size"]:
        read.note("test_smaller_crop")
    if preprocess.startswith("scale_width"):
        return ["--scale-width", str(size)]
    if preprocess != "resize_and_crop":
        return []
    read.note("short_side")
    return ["--short-side", str(size)]


def _kept_model(read: Command, checkpoint: _Checkpoint) -> str | None:
    """The model of a test command in a run of ours; None if it must be imported."""
    run, theirs, which = checkpoint.run, checkpoint.theirs, checkpoint.which
    if run is None:
        return None
    if which.isdecimal():
        kept = _join(run, "models", f"epoch_{int(which):04d}")
    elif which.startswith("iter_"):
        steps = which.removeprefix("iter_")
        kept = _join(run, "checkpoints", f"step_{int(steps) if steps.isdecimal() else 0:07d}")
    else:
        kept = run
    counted = "" if which == "latest" else f" {run} counts epochs and steps from where it began."
    # A continued run counts its own epochs; those before it are in their folder alone.
    if run != theirs and which != "latest" and not Path(kept).exists():
        read.note("earlier_model", which=which, theirs=theirs, run=run, counted=counted)
        return None
    if run != theirs:
        read.note("own_model", kept=kept, theirs=theirs, counted=counted)
    return kept


# ---- both


def _device(read: Command) -> str:
    """gpu_ids as a device. The reference ignores negative ones; without any it uses the CPU."""
    try:
        gpus = [number for word in read["gpu_ids"].split(",") if (number := int(word)) >= 0]
    except ValueError:
        read.problem("no_gpu_ids")
        return "auto"
    if len(gpus) > 1:
        read.problem("several_gpus", count=len(gpus), first=gpus[0])
    return "cpu" if not gpus else "auto" if gpus[0] == 0 else f"cuda:{gpus[0]}"


def _join(*parts: str) -> str:
    """A path as people type it: a leading ./ stays."""
    return "/".join([part.rstrip("/") or "/" for part in parts[:-1]] + [parts[-1]])


def _quote(word: str) -> str:
    """For a shell, which may still put in the values of ~ and $NAME."""
    if re.fullmatch(r"(?:[\w@%+=:,./~-]|\$\w+|\$\{\w+\})+", word):
        return word
    if word.startswith("~/"):
        return "~/" + _quote(word.removeprefix("~/"))
    if re.search(r"\$\w|\$\{\w+\}", word):
        return '"' + re.sub(r'(["\\`]|\$(?![\w{]))', r"\\\1", word) + '"'
    return shell_quote(word)
