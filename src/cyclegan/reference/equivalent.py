"""Translate a command for train.py or test.py of the reference into commands of `cyclegan`, or say why it cannot be."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig, field_sections, flat_values, make_config, read_config_file, saved_config
from cyclegan.errors import InputError
from cyclegan.reference.command import Command, read_command
from cyclegan.reference.options import OPTIONS

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
    Raises InputError, with a sentence for every reason, if the command is not one or something cannot be had here.
    """
    read = read_command(command)
    if read["model"] == "test" and read.script == "train":
        read.problems.append("--model test is for test.py alone.")
    elif read["model"] not in ("cycle_gan", "test"):
        read.problems.append(
            f"--model {read['model']} is not CycleGAN, the only model here; pix2pix and colorization learn from pairs."
        )
    if read["dataroot"] is None:
        read.problems.append("There is no --dataroot; name the folder of images.")
        read.values["dataroot"] = "."
    commands = _train(read) if read.script == "train" else _test(read)
    if read.problems:
        raise InputError("\n".join(read.problems))

    unneeded: dict[str, list[str]] = {}
    for option in OPTIONS:
        if option.name in read.given and (option.status == "not needed" or not read.has_effect(option)):
            unneeded.setdefault(option.note, []).append(option.name)
    for reason, names in unneeded.items():
        read.leave_out(names, reason)
    return Equivalent(tuple(("cyclegan", *words) for words in commands), tuple(read.notes), read.environment)


# ---- train.py


def _train(read: Command) -> list[Words]:
    if read["dataset_mode"] != "unaligned":
        read.problems.append(
            f"--dataset_mode {read['dataset_mode']} is not for unpaired images; CycleGAN takes unaligned, which reads "
            "trainA and trainB."
        )
    name = _name(read)
    theirs, run = _join(read["checkpoints_dir"], name), _find_run(read, name)
    out, before, more = theirs, [], []
    if read["use_wandb"]:
        more += ["--wandb", read["wandb_project_name"]]
    if read["continue_train"] and run is not None:
        out = run
        more += _resume(read, run, theirs)
    elif read["continue_train"]:
        model, out = _model_name(read, name), f"runs/{name}"
        before = [_import(read, theirs, model)]
        more += ["--init-from", model]
        read.notes.append(
            f"--continue_train: the checkpoint in {theirs} is imported, and {out} begins from it. It holds neither "
            "the optimisers nor the image pools, so both start anew, as in the reference."
        )
    paths, tests = _folders(read)
    settings = _settings(read) | _sizes(read) | _length(read) | tests
    settings |= {"device": _device(read), "num_validation": 0}
    read.notes.append(
        "--num-validation 0 trains on all images, as the reference does. Without it, up to a tenth is held out, and "
        "every snapshot is scored."
    )
    if read["input_nc"] != read["output_nc"] and read["lambda_identity"] > 0:
        read.notes.append(
            f"--input_nc {read['input_nc']} and --output_nc {read['output_nc']}: domains with different numbers of "
            "channels have no identity term here; the reference stops, and asks for --lambda_identity 0."
        )
    try:
        make_config(settings, preset="paper")
    except InputError as error:
        if not read.problems:  # else it would only repeat one of them
            read.problems.append(f"Here, these settings are refused: {error}")
    return [*before, ("train", *paths, "--out", out, "--preset", "paper", *_flags(settings), *more)]


def _settings(read: Command) -> dict[str, Any]:
    """The settings of all options that have one of their own, by the table."""
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
        smaller = "; of it and --update_html_freq, the smaller one counts" if len(shown) > 1 else ""
        read.notes.append(
            "--display_freq is --sample-steps here: pictures are files, shown in the report and in TensorBoard"
            f"{smaller}."
        )
    return settings


def _steps(read: Command, images: int) -> int:
    return max(1, round(images / max(1, int(read["batch_size"]))))


def _sizes(read: Command) -> dict[str, Any]:
    """Load and crop size. The reference makes no crop that is larger than the image: the crop is the whole image."""
    load, crop, preprocess = read["load_size"], read["crop_size"], read["preprocess"]
    if preprocess == "resize_and_crop" and load < crop:
        read.notes.append(
            f"--crop_size {crop} is larger than --load_size {load}, so nothing is cropped, as in the reference."
        )
        crop = load
    return {"crop_size": crop, "load_size": None if preprocess in ("crop", "none") else load}


def _length(read: Command) -> dict[str, Any]:
    """Epochs and learning rates: theirs from epoch_count to n_epochs + n_epochs_decay, one rate for each epoch."""
    constant, decay, first = read["n_epochs"], read["n_epochs_decay"], read["epoch_count"]
    policy, drop = read["lr_policy"], read["lr_decay_iters"]
    epochs = constant + decay + 1 - first
    length: dict[str, Any] = {"epochs": epochs}
    if min(constant, decay) < 0 or first < 1 or epochs < 1:
        read.problems.append(
            f"Epochs {first} to {constant} + {decay} are none; give --n_epochs, --n_epochs_decay and --epoch_count "
            "that leave something to train."
        )
        return {}
    if policy == "step" and drop < 1:
        read.problems.append(f"--lr_decay_iters is {drop}; expected at least 1 epoch.")
    elif policy == "step" and drop >= epochs:
        read.notes.append(
            f"--lr_policy step: the rate never drops, as the first drop would come after {drop} of {epochs} epochs."
        )
        length["schedule"] = "constant"
    elif policy == "step":
        length["drop_share"] = drop / epochs
    elif policy == "cosine" and (decay > 0 or first > 1):
        read.problems.append(
            f"--lr_policy cosine there reaches 0 after n_epochs = {constant} epochs of a run and rises again after "
            "them; here it falls once, over the whole run. Ask for --n_epochs as long as the run, --n_epochs_decay 0 "
            "and no --epoch_count."
        )
    elif policy != "cosine" and epochs >= decay:
        length["decay_share"] = _short_share(decay, epochs)
    elif policy != "cosine":  # it begins in the middle of the decay: less of it, from a lower rate
        rate = read["lr"] * (epochs + 1) / (decay + 1)
        length |= {"decay_share": 1.0, "learning_rate": float(f"{rate:.12g}")}
    return length


def _short_share(part: int, whole: int) -> float:
    """part / whole with as few digits as give `part` again."""
    return next(share for digits in range(1, 18) if round((share := round(part / whole, digits)) * whole) == part)


def _folders(read: Command) -> tuple[Words, dict[str, Any]]:
    """The folders of a train command, a root or both by name, and the test folders that a root does not imply."""
    root, phase, swapped = read["dataroot"], read["phase"], read["direction"] == "BtoA"
    if phase == "train" and not swapped:
        return (root,), {}
    a, b = _both(read, phase)
    if swapped:
        read.notes.append(
            f"--direction BtoA: {a} is domain A here and {b} domain B, so that a2b is what BtoA is in the reference."
        )
    test_a, test_b = _both(read, "test")
    there = Path(test_a).is_dir() and Path(test_b).is_dir()
    return (a, b), {"test_a": test_a, "test_b": test_b} if there else {}


def _both(read: Command, phase: str) -> Words:
    return tuple(_join(read["dataroot"], phase + letter) for letter in ("BA" if read["direction"] == "BtoA" else "AB"))


def _flags(settings: dict[str, Any]) -> list[str]:
    """Flags for the settings that are not what they are by default."""
    usual = flat_values(TrainConfig())
    usual["load_size"] = make_config({"crop_size": settings["crop_size"]}).data.resolved_load_size
    words: list[str] = []
    for name in field_sections():
        value, flag = settings.get(name), name.replace("_", "-")
        if value is None or value == usual[name]:
            continue
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


# ---- test.py


def _test(read: Command) -> list[Words]:
    single = read["model"] == "test"
    expected = "single" if single else "unaligned"
    if read["dataset_mode"] != expected and "dataset_mode" in read.given:
        read.problems.append(
            f"--dataset_mode {read['dataset_mode']} does not go with --model {read['model']}; {expected} does."
        )
    model, commands = _model(read)

    flags = _seen_size(read)
    most = min(read[name] for name in ("num_test", "max_dataset_size") if read[name] is not None)
    if most < 1:
        read.problems.append(f"--num_test and --max_dataset_size are {most}; expected at least 1.")
    flags += ["--max-images", str(most)]
    device = _device(read)
    flags += ["--device", device] if device != "auto" else []
    if names := read.given_of(*(option.name for option in OPTIONS if option.in_model)):
        read.leave_out(names, "a saved model knows its networks.")

    out = _join(read["results_dir"], _name(read), f"{read['phase']}_{read['epoch']}")
    out += f"_iter{read['load_iter']}" if read["load_iter"] > 0 else ""
    if single:
        suffixes = {"": "a2b", "_A": "a2b", "_B": "b2a"}
        if read["model_suffix"] not in suffixes:
            read.problems.append(f"--model_suffix is {read['model_suffix']!r}; expected _A, _B or nothing.")
        ways = [(read["dataroot"], suffixes.get(read["model_suffix"], "a2b"), "fake_B")]
    else:
        if "model_suffix" in read.given:
            read.problems.append("--model_suffix goes with --model test alone.")
        a, b = _both(read, read["phase"])
        ways = [(a, "a2b", "fake_B"), (b, "b2a", "fake_A")]
    for images, direction, fake in ways:
        commands.append(("translate", model, images, "--out", _join(out, fake), "--direction", direction, *flags))
    return commands


def _seen_size(read: Command) -> list[str]:
    """Flags for the size at which the network sees the images."""
    size, preprocess = read["load_size"], read["preprocess"]
    whole = "whole images are translated here; the reference cuts a random part out of each."
    if preprocess == "crop":
        read.notes.append(f"--preprocess crop: {whole}")
    elif preprocess.endswith("crop") and size > read["crop_size"]:
        read.notes.append(f"--load_size {size} is above --crop_size {read['crop_size']}: {whole}")
    if preprocess.startswith("scale_width"):
        return ["--scale-width", str(size)]
    if preprocess != "resize_and_crop":
        return []
    read.notes.append(
        f"--load_size {size} is --short-side here: the network sees an image with its shorter side at that size, and "
        f"the result has the size of its input; the reference squashes every image to {size}x{size} pixels. Without "
        "the flag the network sees it at full size."
    )
    return ["--short-side", str(size)]


# ---- checkpoints of the reference, and runs that translated commands have made of them


def _find_run(read: Command, name: str) -> str | None:
    """The run of ours that a name of theirs means by now: at their place, or where --continue_train puts it."""
    places = (_join(read["checkpoints_dir"], name), f"runs/{name}")
    return next((place for place in places if (Path(place).expanduser() / "config.toml").is_file()), None)


def _resume(read: Command, run: str, theirs: str) -> list[str]:
    """Flags that resume a run of ours, which counts its own epochs; sets epoch_count to where it began."""
    also = f"; the checkpoint in {theirs} is not used again" if run != theirs else ""
    read.notes.append(f"--continue_train: {run}, a run of this program, goes on exactly where it stopped{also}.")
    if names := read.given_of("epoch_count", "epoch", "load_iter"):
        read.leave_out(names, "the run knows where it stopped.")
    read.values["epoch_count"] = 1
    if run == theirs:
        return ["--resume"]
    # It may have begun late: it keeps its length, whatever epoch a further command names.
    saved = saved_config(read_config_file(Path(run) / "config.toml"))
    total = read["n_epochs"] + read["n_epochs_decay"]
    if saved.epochs is not None and saved.epochs.is_integer() and saved.epochs < total:
        read.values["epoch_count"] = total + 1 - int(saved.epochs)
        read.notes.append(f"{run} keeps its length, {saved.epochs:g} epochs in all; --epochs makes it longer.")
    if saved.init_from is None:
        return ["--resume"]
    start, here = saved.init_from, Path.cwd()  # runs keep whole paths
    return ["--init-from", str(start.relative_to(here) if start.is_relative_to(here) else start), "--resume"]


def _model(read: Command) -> tuple[str, list[Words]]:
    """The model of a test command, and the import that makes it, unless a run of ours has it."""
    name, which = _name(read), _which(read)
    theirs, run = _join(read["checkpoints_dir"], name), _find_run(read, name)
    imported = _model_name(read, name), [_import(read, theirs, _model_name(read, name))]
    if run is None:
        return imported
    kept = _kept(run, which)
    counted = "" if which == "latest" else f" {run} counts epochs and steps from where it began."
    # A continued run counts its own epochs; those before it are in their folder alone.
    if run != theirs and which != "latest" and not Path(kept).exists():
        read.notes.append(f"The model is checkpoint {which} of {theirs}, not {run}, which goes on from there.{counted}")
        return imported
    if run != theirs:
        read.notes.append(f"The model is {kept}, not the checkpoint in {theirs}.{counted}")
    return kept, []


def _kept(run: str, which: str) -> str:
    """Where a run of ours keeps the model of an epoch or, with iter_ before it, of a step; else the newest one."""
    if which.isdecimal():
        return _join(run, "models", f"epoch_{int(which):04d}")
    if which.startswith("iter_"):
        steps = which.removeprefix("iter_")
        return _join(run, "checkpoints", f"step_{int(steps) if steps.isdecimal() else 0:07d}")
    return run


def _import(read: Command, checkpoints: str, model: str) -> Words:
    which = _which(read)
    return ("import", checkpoints, "--out", model, *(("--epoch", which) if which != "latest" else ()))


def _model_name(read: Command, name: str) -> str:
    which = _which(read)
    return f"models/{name}" if which == "latest" else f"models/{name}_{which}"


def _which(read: Command) -> str:
    return f"iter_{read['load_iter']}" if read["load_iter"] > 0 else str(read["epoch"])


# ---- both


def _name(read: Command) -> str:
    """The name with its suffix, in which {option} stands for a value."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in read.values:
            read.problems.append(f"--suffix has {match[0]}, and there is no such option.")
        return str(read.values.get(match[1], ""))

    suffix = re.sub(r"{(\w+)}", value, read["suffix"])
    return f"{read['name']}_{suffix}" if suffix else str(read["name"])


def _device(read: Command) -> str:
    """gpu_ids as a device. The reference passes over negative ones; none at all is the CPU."""
    try:
        gpus = [number for word in read["gpu_ids"].split(",") if (number := int(word)) >= 0]
    except ValueError:
        read.problems.append(f"--gpu_ids is {read['gpu_ids']!r}; expected numbers, as in 0 or -1.")
        return "auto"
    if len(gpus) > 1:
        read.problems.append(
            f"--gpu_ids {read['gpu_ids']} asks for {len(gpus)} GPUs, and a run here uses one device; give one, such as "
            f"--gpu_ids {gpus[0]}, with the batch size that fits it (several runs can have one GPU each)."
        )
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
    return shlex.quote(word)
