"""A command for train.py or test.py of the reference -> the equivalent commands of this program, or the reasons."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclegan.config import TrainConfig, field_sections, flat_values, make_config, read_config_file, saved_config
from cyclegan.errors import InputError
from cyclegan.reference.command import Command, find_option, read_command
from cyclegan.reference.options import OPTIONS


@dataclass(frozen=True)
class Equivalent:
    """commands: each one a list of words, to be run in this order. notes: sentences on what differs.

    environment: NAME=VALUE words that stand before each command.
    """

    commands: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        # NAME='VALUE': a shell takes 'NAME=VALUE' for a command.
        pairs = [word.partition("=") for word in self.environment]
        before = "".join(f"{name}={_quote(value)} " for name, _, value in pairs)
        return "\n".join(before + " ".join(map(_quote, words)) for words in self.commands)


def translate_reference(command: str) -> Equivalent:
    """The commands of this program that do what `command`, a whole command line of the reference, does.

    Values are those that make the result equal: also defaults of theirs that are not ours.
    Raises InputError, with a sentence for every reason, if the command is not one or something cannot be had here.
    """
    read = read_command(command)
    if read["model"] not in (("cycle_gan",) if read.script == "train" else ("cycle_gan", "test")):
        read.problems.append(
            f"--model {read['model']} is not CycleGAN, which is all that there is here; pix2pix and colorization learn "
            "from pairs."
            if read["model"] != "test"
            else "--model test is for test.py alone."
        )
    if read["direction"] not in ("AtoB", "BtoA"):
        read.problems.append(
            f"--direction is {read['direction']}; expected AtoB or BtoA (there, any other word silently means BtoA)."
        )
    if read["dataroot"] is None:
        read.problems.append("There is no --dataroot; name the folder of images.")
        read.values["dataroot"] = "."
    if read["use_wandb"] is False and "wandb_project_name" in read.given:
        read.notes.append("--wandb_project_name is left out: without --use_wandb it does nothing in the reference.")
    commands = _train(read) if read.script == "train" else _test(read)
    if read.problems:
        raise InputError("\n".join(read.problems))
    reasons: dict[str, list[str]] = {}
    for option in OPTIONS:
        if option.name in read.given and option.status == "not needed":
            reasons.setdefault(option.note, []).append(option.name)
    read.notes += [_left_out(names, reason) for reason, names in reasons.items()]
    return Equivalent(tuple(("cyclegan", *words) for words in commands), tuple(read.notes), read.environment)


def _left_out(names: list[str], reason: str) -> str:
    words = [f"--{name}" for name in names]
    if len(words) == 1:
        return f"{words[0]} is left out: {reason}"
    return f"{', '.join(words[:-1])} and {words[-1]} are left out: {reason}"


def _given(read: Command, *names: str) -> list[str]:
    """Those of these options that were given."""
    return [name for name in names if name in read.given]


def _join(*parts: str) -> str:
    """A path as people type it: a leading ./ stays."""
    return "/".join([part.rstrip("/") or "/" for part in parts[:-1]] + [parts[-1]])


def _is_run(place: str) -> bool:
    """Whether a run of ours is there already, made by a translated command."""
    return (Path(place).expanduser() / "config.toml").is_file()


def _find_run(read: Command, name: str) -> str | None:
    """The run of ours that a name of theirs means by now: at their place, or where --continue_train puts it."""
    theirs, ours = _join(read["checkpoints_dir"], name), f"runs/{name}"
    return next((place for place in (theirs, ours) if _is_run(place)), None)


# ---- train.py


def _train(read: Command) -> list[tuple[str, ...]]:
    if read["dataset_mode"] != "unaligned":
        read.problems.append(
            f"--dataset_mode {read['dataset_mode']} is not for unpaired images; CycleGAN takes unaligned, which reads "
            "trainA and trainB."
        )
    settings = {
        option.setting: read.in_our_words(option.name) if option.words else read[option.name]
        for option in OPTIONS
        if option.setting is not None and option.name != "lr_policy"
    }
    paths, name = _folders(read), _name(read)
    out = theirs = _join(read["checkpoints_dir"], name)
    ours = _find_run(read, name) if read["continue_train"] else None
    more: tuple[str, ...] = ("--wandb", read["wandb_project_name"]) if read["use_wandb"] else ()
    if ours is not None:
        more += _go_on(read, ours, theirs)
        out = ours
    settings |= _architecture(read) | _sizes(read) | _rhythm(read) | _length(read) | _device(read) | _held(read)
    settings |= {"flip": not read["no_flip"], "shuffle": not read["serial_batches"], "batch_size": read["batch_size"]}
    # There all images are trained on; what scores in training are made from is held out here.
    settings["num_validation"] = 0
    read.notes.append(
        "--num-validation 0 trains on all images, as the reference does. Without it, up to a tenth is held out, and "
        "every snapshot is scored."
    )
    if read["no_lsgan"]:
        settings["adversarial"] = "vanilla"
    if settings["adversarial"] == "wgan-gp":
        read.notes.append(
            "--gan_mode wgangp: cycle_gan of the reference never adds the gradient penalty, so its critic has no "
            "constraint; here the penalty works, with a --gradient-penalty-weight of 10."
        )
    if read["input_nc"] != read["output_nc"] and read["lambda_identity"] > 0:
        read.notes.append(
            f"--input_nc {read['input_nc']} and --output_nc {read['output_nc']}: domains with different numbers of "
            "channels have no identity term here; the reference stops, and asks for --lambda_identity 0."
        )

    before: list[tuple[str, ...]] = []
    if read["continue_train"] and ours is None:
        model = _model_name(read, name)
        before = [_import(read, theirs, model)]
        more += ("--init-from", model)
        out = f"runs/{name}"
        read.notes.append(
            f"--continue_train: the checkpoint in {theirs} is imported, and {out} begins from it. It holds neither "
            "the optimisers nor the image pools, so both start anew, as in the reference."
        )
    elif not read["continue_train"] and (useless := _given(read, "epoch", "load_iter")):
        read.notes.append(_left_out(useless, "without --continue_train, training in the reference ignores that."))
    try:
        make_config(settings, preset="paper")
    except InputError as error:
        if not read.problems:  # else it would only repeat one of them
            read.problems.append(f"Here, these settings are refused: {error}")
    return [*before, ("train", *paths, "--out", out, "--preset", "paper", *_flags(settings), *more)]


def _go_on(read: Command, run: str, theirs: str) -> tuple[str, ...]:
    """Flags that go on with a run of ours, which counts its own epochs; changes epoch_count to where it began."""
    left_out = _given(read, "epoch_count", "epoch", "load_iter")
    also = f"; the checkpoint in {theirs} is not used again" if run != theirs else ""
    read.notes.append(
        f"--continue_train: {run}, a run of this program, goes on exactly where it stopped{also}."
        + (" " + _left_out(left_out, "it knows where that is.") if left_out else "")
    )
    read.values["epoch_count"] = 1
    if run == theirs:
        return ("--resume",)
    # It may have begun late: it keeps the length that it has, wherever a further command says that it is by now.
    saved = saved_config(read_config_file(Path(run) / "config.toml"))
    total = read["n_epochs"] + read["n_epochs_decay"]
    if saved.epochs is not None and saved.epochs.is_integer() and saved.epochs < total:
        read.values["epoch_count"] = total + 1 - int(saved.epochs)
        read.notes.append(f"{run} keeps its length, {saved.epochs:g} epochs in all; --epochs makes it longer.")
    if saved.init_from is None:
        return ("--resume",)
    return "--init-from", _shortest(saved.init_from), "--resume"


def _shortest(path: Path) -> str:
    """As seen from here if it lies below; runs keep whole paths."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _architecture(read: Command) -> dict[str, Any]:
    kind, size, number = (read.in_our_words("netG") or "resnet blocks 9").split()
    generator = {"generator": kind, size: int(number)}
    layers = read["n_layers_D"] if read["netD"] == "n_layers" else 3
    if "n_layers_D" in read.given and read["netD"] != "n_layers":
        read.notes.append("--n_layers_D is left out: without --netD n_layers it does nothing in the reference.")
    return {**generator, "discriminator": read.in_our_words("netD"), "discriminator_layers": layers}


def _sizes(read: Command) -> dict[str, Any]:
    """Load and crop size. A crop larger than the image is not made there, which is a crop of the whole image."""
    load, crop = read["load_size"], read["crop_size"]
    if read["preprocess"] == "resize_and_crop" and load < crop:
        read.notes.append(
            f"--crop_size {crop} is larger than --load_size {load}, so nothing is cropped, as in the reference."
        )
        crop = load
    if note := dict(find_option("preprocess").value_notes).get(read["preprocess"]):
        read.notes.append(f"--preprocess {read['preprocess']}: {note}")
    return {"crop_size": crop, "load_size": load if "crop" != read["preprocess"] != "none" else None}


def _rhythm(read: Command) -> dict[str, Any]:
    """Frequencies: theirs count images, ours steps."""
    shown = [read[name] for name in _given(read, "display_freq", "update_html_freq")]
    if "display_freq" in read.given:
        smaller = "; of it and --update_html_freq, the smaller one counts" if len(shown) > 1 else ""
        read.notes.append(
            "--display_freq is --sample-steps here: pictures are files, shown in the report and in TensorBoard"
            + smaller
            + "."
        )
    images = {
        "log_steps": read["print_freq"],
        "sample_steps": min(shown, default=read["update_html_freq"]),
        "checkpoint_steps": read["save_latest_freq"],
    }
    kept: dict[str, Any] = {"keep_checkpoints": 1_000_000} if read["save_by_iter"] else {}
    return kept | {name: max(1, round(count / max(1, read["batch_size"]))) for name, count in images.items()}


def _length(read: Command) -> dict[str, Any]:
    """Epochs and learning rates: theirs from epoch_count to n_epochs + n_epochs_decay, one rate for each epoch."""
    constant, decay, first = read["n_epochs"], read["n_epochs_decay"], read["epoch_count"]
    epochs = constant + decay + 1 - first
    if min(constant, decay) < 0 or first < 1 or epochs < 1:
        read.problems.append(
            f"Epochs {first} to {constant} + {decay} are none; give --n_epochs, --n_epochs_decay and --epoch_count "
            "that leave something to train."
        )
        return {}
    policy, drop = read.in_our_words("lr_policy"), read["lr_decay_iters"]
    if policy != "step" and "lr_decay_iters" in read.given:
        read.notes.append("--lr_decay_iters is left out: without --lr_policy step it does nothing in the reference.")
    if policy == "step":
        if drop < 1:
            read.problems.append(f"--lr_decay_iters is {drop}; expected at least 1 epoch.")
        elif drop >= epochs:
            read.notes.append(
                f"--lr_policy step: the rate never drops, as the first drop would come after {drop} of {epochs} epochs."
            )
            return {"epochs": epochs, "schedule": "constant"}
        return {"epochs": epochs, "schedule": "step", "drop_share": drop / epochs}
    if policy == "cosine":
        if decay > 0 or first > 1:
            read.problems.append(
                f"--lr_policy cosine there reaches 0 after n_epochs = {constant} epochs of a run and rises again after "
                "them; here it falls once, over the whole run. Ask for --n_epochs as long as the run, "
                "--n_epochs_decay 0 and no --epoch_count."
            )
        read.notes.append(
            "--lr_policy cosine: the rate changes with every step here, with every epoch in the reference."
        )
        return {"epochs": epochs, "schedule": "cosine"}
    if read["lr_policy"] == "plateau":
        read.problems.append(
            "--lr_policy plateau watches a number that is always 0 there, so the rate falls to a fifth every 6 epochs "
            "whatever happens, and training stands still after about 40. Use linear, step or cosine."
        )
    if epochs >= decay:
        return {"epochs": epochs, "decay_share": _short_share(decay, epochs)}
    # It begins in the middle of the decay: less of it, from a lower rate.
    rate = read["lr"] * (epochs + 1) / (decay + 1)
    return {"epochs": epochs, "decay_share": 1.0, "learning_rate": float(f"{rate:.12g}")}


def _short_share(part: int, whole: int) -> float:
    """part / whole with as few digits as give `part` again."""
    return next(share for digits in range(1, 18) if round((share := round(part / whole, digits)) * whole) == part)


def _device(read: Command) -> dict[str, Any]:
    """gpu_ids as a device. Negative ones are passed over there; none at all is the CPU."""
    try:
        numbers = [int(word) for word in read["gpu_ids"].split(",")]
    except ValueError:
        read.problems.append(f"--gpu_ids is {read['gpu_ids']!r}; expected numbers, as in 0 or -1.")
        return {}
    gpus = [number for number in numbers if number >= 0]
    if len(gpus) > 1:
        read.problems.append(
            f"--gpu_ids {read['gpu_ids']} asks for {len(gpus)} GPUs, and a run here uses one device; give one, such as "
            f"--gpu_ids {gpus[0]}, with the batch size that fits it (several runs can have one GPU each)."
        )
    return {"device": "cpu" if not gpus else "auto" if gpus[0] == 0 else f"cuda:{gpus[0]}"}


def _folders(read: Command) -> tuple[str, ...]:
    """The folders of a train command: a root, or both by name."""
    root, phase, swapped = read["dataroot"], read["phase"], read["direction"] == "BtoA"
    if phase == "train" and not swapped:
        return (root,)
    a, b = (_join(root, phase + letter) for letter in ("BA" if swapped else "AB"))
    if swapped:
        read.notes.append(
            f"--direction BtoA: {a} is domain A here and {b} domain B, so that a2b is what BtoA is in the reference."
        )
    return a, b


def _held(read: Command) -> dict[str, Any]:
    """The test folders of a root that is not named as a whole, if they are there."""
    swapped = read["direction"] == "BtoA"
    held = [_join(read["dataroot"], "test" + letter) for letter in ("BA" if swapped else "AB")]
    if (read["phase"] == "train" and not swapped) or not all(Path(folder).is_dir() for folder in held):
        return {}
    return {"test_a": held[0], "test_b": held[1]}


def _name(read: Command) -> str:
    """The name with its suffix, in which {option} stands for a value."""
    if not read["suffix"]:
        return str(read["name"])

    def value(match: re.Match[str]) -> str:
        if match[1] not in read.values:
            read.problems.append(f"--suffix has {match[0]}, and there is no such option.")
        return str(read.values.get(match[1], ""))

    return str(read["name"]) + "_" + re.sub(r"{(\w+)}", value, read["suffix"])


def _flags(settings: dict[str, Any]) -> list[str]:
    """Flags for the settings that are not what they are by default."""
    usual = flat_values(TrainConfig())
    words: list[str] = []
    for name in field_sections():
        value = settings.get(name)
        if value is None or value == usual[name]:
            continue
        if name == "load_size" and value == make_config({"crop_size": settings["crop_size"]}).data.resolved_load_size:
            continue
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


# ---- test.py, and their checkpoints


def _import(read: Command, checkpoints: str, model: str) -> tuple[str, ...]:
    which = _which(read)
    return ("import", checkpoints, "--out", model, *(("--epoch", which) if which != "latest" else ()))


def _model_name(read: Command, name: str) -> str:
    which = _which(read)
    return f"models/{name}" if which == "latest" else f"models/{name}_{which}"


def _which(read: Command) -> str:
    return f"iter_{read['load_iter']}" if read["load_iter"] > 0 else str(read["epoch"])


def _test(read: Command) -> list[tuple[str, ...]]:
    single = read["model"] == "test"
    expected = "single" if single else "unaligned"
    if read["dataset_mode"] != expected and "dataset_mode" in read.given:
        read.problems.append(
            f"--dataset_mode {read['dataset_mode']} does not go with --model {read['model']}; {expected} does."
        )
    name, which = _name(read), _which(read)

    # The model: their checkpoints are imported first, a run of ours is used as it is.
    place = _join(read["checkpoints_dir"], name)
    commands: list[tuple[str, ...]] = []
    model = _model_name(read, name)
    run = _find_run(read, name)
    kept = None if run is None else _kept(run, which)
    # A continued run counts its own epochs; those before it are in their folder alone.
    if kept is None or (run != place and which != "latest" and not Path(kept).exists()):
        commands = [_import(read, place, model)]
    else:
        model = kept
    if run is not None and (run != place or commands):
        other = f"{run}, which goes on from there" if commands else f"the checkpoint in {place}"
        taken = f"checkpoint {which} of {place}" if commands else model
        read.notes.append(f"The model is {taken}, not {other}." + _counted(run, which))

    # The images, and at which size the network sees them.
    flags: list[str] = []
    if read["preprocess"] == "resize_and_crop":
        flags += ["--short-side", str(read["load_size"])]
        size = read["load_size"]
        read.notes.append(
            f"--load_size {size} is --short-side here: the network sees an image with its shorter side at that size, "
            f"and the result has the size of its input; the reference squashes every image to {size}x{size} pixels. "
            "Without the flag the network sees it at full size."
        )
    elif read["preprocess"].startswith("scale_width"):
        flags += ["--scale-width", str(read["load_size"])]
    whole = "whole images are translated here; the reference cuts a random part out of each."
    if read["preprocess"] == "crop":
        read.notes.append(f"--preprocess crop: {whole}")
    elif read["preprocess"].endswith("crop") and read["load_size"] > read["crop_size"]:
        read.notes.append(f"--load_size {read['load_size']} is above --crop_size {read['crop_size']}: {whole}")
    numbers = [read[name] for name in ("num_test", "max_dataset_size") if read[name] is not None]
    flags += ["--max-images", str(min(numbers))]
    if min(numbers) < 1:
        read.problems.append(f"--num_test and --max_dataset_size are {min(numbers)}; expected at least 1.")
    device = _device(read).get("device", "auto")
    flags += ["--device", device] if device != "auto" else []
    made_of = ("netG", "ngf", "norm", "no_dropout", "input_nc", "output_nc", "ndf", "netD", "n_layers_D")
    if names := _given(read, *made_of):
        read.notes.append(_left_out(names, "a model here knows what its networks are made of."))

    out = _join(read["results_dir"], name, f"{read['phase']}_{read['epoch']}")
    out += f"_iter{read['load_iter']}" if read["load_iter"] > 0 else ""
    root, swapped = read["dataroot"], read["direction"] == "BtoA"
    if single:
        suffixes = {"": "a2b", "_A": "a2b", "_B": "b2a"}
        if read["model_suffix"] not in suffixes:
            read.problems.append(f"--model_suffix is {read['model_suffix']!r}; expected _A, _B or nothing.")
        ways = [(root, suffixes.get(read["model_suffix"], "a2b"), "fake_B")]
    else:
        if "model_suffix" in read.given:
            read.problems.append("--model_suffix goes with --model test alone.")
        a, b = (_join(root, read["phase"] + letter) for letter in ("BA" if swapped else "AB"))
        ways = [(a, "a2b", "fake_B"), (b, "b2a", "fake_A")]
    for images, direction, fake in ways:
        commands.append(("translate", model, images, "--out", _join(out, fake), "--direction", direction, *flags))
    return commands


def _kept(run: str, which: str) -> str:
    """Where a run of ours keeps a model that they know by its epoch, or by iter_ and a number; or the newest one."""
    if which.isdecimal():
        return _join(run, "models", f"epoch_{int(which):04d}")
    if which.startswith("iter_"):
        steps = which.removeprefix("iter_")
        return _join(run, "checkpoints", f"step_{int(steps) if steps.isdecimal() else 0:07d}")
    return run


def _counted(run: str, which: str) -> str:
    return "" if which == "latest" else f" {run} counts epochs and steps from where it began."


def _quote(word: str) -> str:
    """For a shell, which may still put in the values of ~ and $NAME."""
    if re.fullmatch(r"(?:[\w@%+=:,./~-]|\$\w+|\$\{\w+\})+", word):
        return word
    if word.startswith("~/"):
        return "~/" + _quote(word.removeprefix("~/"))
    if re.search(r"\$\w|\$\{\w+\}", word):
        return '"' + re.sub(r'(["\\`]|\$(?![\w{]))', r"\\\1", word) + '"'
    return shlex.quote(word)
