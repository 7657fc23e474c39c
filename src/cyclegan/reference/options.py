"""Every option of the train and test commands of junyanz/pytorch-CycleGAN-and-pix2pix, and its equivalent here.

The table is options.toml. The documentation shows it, and `translate_reference` translates whole commands by it.
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cyclegan.config import TrainConfig, flat_values

Kind = Literal["text", "int", "float", "flag"]
Status = Literal["same", "other name", "other meaning", "not needed", "refused"]

_KINDS: dict[type, Kind] = {bool: "flag", int: "int", float: "float", str: "text"}


@dataclass(frozen=True)
class Option:
    """One option of the reference, as its cycle_gan model sees it. Names are without dashes.

    name: the newest one, by which a value is kept. older: names in earlier versions. version: the versions that have
    it, if not all. kind: that of the default, if there is one. default: theirs, of the model cycle_gan.
    ours: how it is written here, for people. our_default: what holds here, if `setting` does not say it.
    setting: the setting of ours that has the value. values: their values, if the set is fixed, each with ours: the
    value of `setting`, or a table of settings; of a flag `true` alone. refused: values that cannot be had, and why.
    per_batch: theirs counts images, ours steps. in_model: a saved model stores it. needs: the option, or the option and
    its value, without which it does nothing in training.
    differs: what differs and why, in whole sentences. note: the end of "--name is left out: ...", which is printed if
    it is given and not needed. value_notes: printed with a value in training.
    answers: the end of "there is no flag --name; ...", by command; `run` is for every command that takes a run.
    """

    name: str
    older: tuple[str, ...] = ()
    command: Literal["train", "test", "both"] = "both"
    version: str = ""
    kind: Kind = "text"
    default: Any = None
    default_test: Any = None
    status: Status = "other name"
    ours: str = ""
    our_default: str = ""
    setting: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    per_batch: bool = False
    in_model: bool = False
    needs: str = ""
    differs: str = ""
    note: str = ""
    value_notes: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the newest first."""
        return (self.name, *self.older)

    def in_command(self, command: str) -> bool:
        """Whether train.py or test.py has it. command: train or test."""
        return self.command in (command, "both")

    def default_of(self, command: str) -> Any:
        """Their default in train or in test."""
        return self.default_test if command == "test" and self.default_test is not None else self.default


def _read_tables() -> tuple[tuple[Option, ...], dict[str, str]]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    texts = table.pop("texts")

    def whole(value: Any) -> Any:
        """Long texts are broken into lines in the file, and shared ones stand in its first table."""
        if isinstance(value, str):
            return " ".join(texts[value[1:]].split() if value.startswith("@") else value.split())
        return {key: whole(item) for key, item in value.items()} if isinstance(value, dict) else value

    def option(name: str, row: dict[str, Any]) -> Option:
        kind = _KINDS[type(row["default"])] if "default" in row else row.pop("kind", "text")
        return Option(name, tuple(row.pop("older", ())), kind=kind, **whole(row))

    messages = whole(table.pop("messages"))
    return tuple(option(name, row) for name, row in table.items()), messages


# MESSAGES: notes and problems of translated commands, by name.
OPTIONS, MESSAGES = _read_tables()
BY_NAME = {option.name: option for option in OPTIONS}


def answer(name: str, command: str, flags: Collection[str], *, takes_run: bool) -> str | None:
    """What to do instead of an option of the reference, as the end of "there is no flag --name".

    command: of this program, which has these flags; takes_run: whether it has the argument RUN. None if `name` is no
    option of the reference.
    """
    option = next((option for option in OPTIONS if name in option.names), None)
    if option is None:
        return None
    whole = "; cyclegan train --from-reference translates whole commands" if command in ("train", "translate") else ""
    if found := option.answers.get(command) or (option.answers.get("run") if takes_run else None):
        return f"; {found}{whole}"
    prefix = "(?:translate )?" if command == "translate" else ""
    known = [flag for flag in re.findall(rf"`{prefix}(--[\w-]+)[^`]*`", option.ours) if flag in flags]
    if known and not option.answers:
        return f", which is {', '.join(known)} here{whole}"
    if option.in_model and takes_run:
        return "; leave it out, because a run knows its networks"
    reason = option.note or option.differs
    if reason and option.command in ({"train": ("train", "both"), "translate": ("test",)}.get(command, ())):
        return f"; leave it out: {reason[:1].lower()}{reason[1:].rstrip('.')}"
    work = "translating" if option.command == "test" else "training"
    return f", which the reference implementation has for {work}"


def our_default(option: Option) -> str:
    """What holds here by default, for people; empty if there is no counterpart."""
    if option.our_default or option.setting is None:
        return option.our_default
    value = flat_values(TrainConfig())[option.setting]
    if option.setting == "load_size":
        value = TrainConfig().data.resolved_load_size
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def options_table() -> str:
    """The table of the documentation, in Markdown."""
    lines = [
        "| theirs | in | default there | ours | here with `--preset paper` | what differs, and why |",
        "|---|---|---|---|---|---|",
    ]
    for option in OPTIONS:
        older = f" (older: {', '.join(f'`--{name}`' for name in option.older)})" if option.older else ""
        where = {"both": "train, test"}.get(option.command, option.command)
        where += f"; {option.version}" if option.version else ""
        default = _shown(option, option.default)
        if option.default_test is not None and option.default_test != option.default:
            default += f"; test: {_shown(option, option.default_test)}"
        status = {"other name": "", "same": ""}.get(option.status, f"{option.status.capitalize()}. ")
        alike = "Nothing." if option.status == "same" else "Only the name."
        cells = [f"`--{option.name}`{older}", where, default, option.ours or "-", our_default(option)]
        lines.append("| " + " | ".join([*cells, (status + option.differs) or alike]) + " |")
    return "\n".join(lines) + "\n"


def _shown(option: Option, default: Any) -> str:
    if option.kind == "flag":
        return "on" if default else "off"
    if default is None:
        return "required" if option.name == "dataroot" else "all"
    return f"{default:g}" if isinstance(default, float) else str(default) or "empty"
