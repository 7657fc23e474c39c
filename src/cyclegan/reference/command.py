"""Parse a command line for train.py or test.py of the reference, as its own parser would."""

import difflib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cyclegan.errors import InputError
from cyclegan.reference.options import BY_NAME, MESSAGES, OPTIONS, Option

# Words on which the shell would act.
_OPERATORS = frozenset(("&&", "||", ";", "|", "&", ">", ">>", "<", "2>", "2>&1", "&>", "&>>"))
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


@dataclass
class Command:
    """A parsed command.

    script: train or test. environment: assignments before the command. values: every option by its newest name, with
    their defaults. given: the options that the command has. notes and problems: sentences for the user.
    """

    script: str
    environment: tuple[str, ...]
    values: dict[str, Any]
    given: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def has_effect(self, option: Option) -> bool:
        """Whether the option that this one needs is there, with the value that it needs."""
        name, _, value = option.needs.partition(" ")
        if not name or not BY_NAME[name].in_command(self.script) or (self.script == "test" and option.in_model):
            return True
        return bool(self[name] == value if value else self[name])

    def given_of(self, *names: str) -> list[str]:
        """Those of these options that the command has."""
        return [name for name in names if name in self.given]

    def note(self, name: str, **more: object) -> None:
        """Add a text of MESSAGES to the notes; {option} in it stands for a value, of an option or of `more`."""
        self.notes.append(MESSAGES[name].format_map(self.values | more))

    def problem(self, name: str, **more: object) -> None:
        """Add a text of MESSAGES to the problems."""
        self.problems.append(MESSAGES[name].format_map(self.values | more))

    def leave_out(self, names: list[str], reason: str) -> None:
        """Add the note that these options are left out."""
        words = [f"--{name}" for name in names]
        which = f"{words[0]} is" if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]} are"
        self.notes.append(f"{which} left out: {reason}")


def read_command(command: str) -> Command:
    """Parse a whole command line. Mistakes become `problems`. Raises InputError if it names neither script."""
    # Lines continue after \ in sh, after ^ in cmd, after ` in PowerShell. A \ before a name separates Windows folders.
    text = re.sub(r"[\\^`][ \t]*\r?\n", " ", command.strip().lstrip("!$%> "))
    try:
        words = shlex.split(re.sub(r"\\(?=[\w.])", "/", text))
    except ValueError as error:
        raise InputError(f"The command cannot be read ({error}); give it as one string in quotes.") from None
    scripts = [i for i, word in enumerate(words) if re.split(r"[/\\]", word)[-1] in ("train.py", "test.py")]
    if not scripts:
        raise InputError(
            f"{command.strip()!r} names neither train.py nor test.py; give the whole command, as in "
            "'python train.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan'."
        )
    before, after = words[: scripts[0]], _without_output(words[scripts[0] + 1 :])
    script = "test" if words[scripts[0]].endswith("test.py") else "train"
    read = Command(
        script,
        tuple(word for word in before if _ASSIGNMENT.fullmatch(word) and not word.startswith("-")),
        {option.name: option.default_of(script) for option in OPTIONS},
    )
    _read_launcher(before, read)
    _read_options(after, read)
    return read


def _without_output(words: list[str]) -> list[str]:
    """Without redirections of the output, such as `> log.txt 2>&1 &` of a training in the background."""
    words = list(words)
    while words and words[-1] in ("&", "2>&1"):
        words.pop()
    if len(words) > 1 and re.fullmatch(r"[12&]?>{1,2}|<", words[-2]):
        return _without_output(words[:-2])
    if words and re.fullmatch(r"(?:[12&]?>{1,2}|<)[^<>&]+", words[-1]):
        return _without_output(words[:-1])
    return words


def _read_launcher(words: list[str], read: Command) -> None:
    """Options of torchrun: a run here is one process."""
    for place, word in enumerate(words):
        flag, _, value = word.replace("-", "_").lstrip("_").partition("=")
        if flag in ("nproc_per_node", "nnodes") and word.startswith("-"):
            value = value or (words[place + 1] if place + 1 < len(words) else "")
            if value != "1":
                read.problem("several_processes", flag=word.partition("=")[0], value=value)


def _read_options(words: list[str], read: Command) -> None:
    known = {name: option for option in OPTIONS for name in option.names if option.in_command(read.script)}
    others = {name: option for option in OPTIONS for name in option.names if not option.in_command(read.script)}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _OPERATORS or word.rstrip(";&|") != word:
            read.problems.append(f"{word!r} belongs to the shell; give one command alone.")
            return
        if not word.startswith("--"):
            read.problems.append(f"{word!r} belongs to no option.")
            continue
        flag, equals, value = word.partition("=")
        option = _find(flag.removeprefix("--"), known, others, read)
        if option is None or option.kind == "flag":
            if option is not None:
                read.given.add(option.name)
                read.values[option.name] = True
                if equals:
                    read.problems.append(f"{flag} takes no value, and {value!r} was given.")
            elif not equals and rest and not rest[0].startswith("--") and rest[0] not in _OPERATORS:
                rest.pop(0)  # the value of an option that is not known
            continue
        if not equals:
            if not rest or (rest[0].startswith("-") and not re.fullmatch(r"-\d+|-\d*\.\d+", rest[0])):
                read.problems.append(f"--{option.name} needs a value.")
                continue
            value = rest.pop(0)
        _take(option, value, read)


def _find(name: str, known: dict[str, Option], others: dict[str, Option], read: Command) -> Option | None:
    """The option of a flag. As in the reference, the beginning of a name is enough if only one option has it."""
    if name in known:
        return known[name]
    meant = {option.name: option for key, option in known.items() if key.startswith(name)}
    if len(meant) == 1:
        return next(iter(meant.values()))
    if meant:
        read.problems.append(f"--{name} may be {' or '.join(f'--{each}' for each in meant)}; write it out.")
    elif name in others:
        read.problems.append(f"--{name} is an option of {others[name].command}.py, not of {read.script}.py.")
    else:
        nearest = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        hint = f"; did you mean --{nearest[0]}?" if nearest else "."
        read.problems.append(f"The reference has no option --{name}{hint}")
    return None


def _take(option: Option, text: str, read: Command) -> None:
    """Keep the value of an option, or add the problem with it."""
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "text": str}
    read.given.add(option.name)
    try:
        value = kinds[option.kind](text)
    except ValueError:
        expected = "a whole number" if option.kind == "int" else "a number"
        read.problems.append(f"--{option.name} is {text!r}; expected {expected}.")
        return
    if option.status == "refused":
        read.problems.append(f"--{option.name}: {option.differs}")
    elif value in option.refused:
        read.problems.append(f"--{option.name} {text} {option.refused[text]}")
    elif option.values and value not in option.values:
        read.problems.append(f"--{option.name} is {text!r}; expected one of: {', '.join(option.values)}.")
    else:
        read.values[option.name] = value
