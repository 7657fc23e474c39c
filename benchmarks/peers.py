"""CUT and DCLGAN against our recipes: the same images, sizes and minutes, and all scores of `cyclegan evaluate`.

They are trained by their authors' code, from checkouts on this machine; this repository has nothing of it. What is not
theirs is in `peer_code.py`. Their networks get the sizes of ours, and as many steps as fit into the minutes: the step
of each method is timed beside that of `paper`, in one process. Finished runs are skipped and stopped ones resumed.

    python benchmarks/peers.py cut=DIR dclgan=DIR --minutes 10 --split test --jobs 2
    python benchmarks/peers.py cut=DIR --minutes 1 --recipes modern cut --seeds 0 --tasks etopo1 --label trial

cut=DIR is a checkout of taesungp/contrastive-unpaired-translation, with the methods cut and fastcut; dclgan=DIR one of
JunlinHan/DCLGAN, with dclgan and simdcl. CUT learns one direction: `cut` has half of the minutes for each, `cut_each`
all of them for each, which is twice the time of the others; so does `fastcut`.
"""

from pathlib import Path
from typing import Any

from quality import Page, make_parser, run
from recipes import CHECKOUTS, PEERS
from tables import describe, order, ratio, ratio_table, score_table
from tasks import TASKS

from cyclegan.errors import InputError
from cyclegan.metrics.table import METRICS

RECIPES = ("paper", "modern", "cut", "cut_each", "dclgan", "simdcl")

HEAD = """# Other methods, in their authors' code

Made by `benchmarks/peers.py`, on the tasks of [quality.md](quality.md), whose notes on tasks, ratios and intervals hold
here as well. CUT and DCLGAN are trained by their authors' code with their losses, optimisers and defaults, and networks
of the sizes of ours. `cut` trains both directions in the minutes of the others, half of them each; `cut_each` has all
of the minutes for each direction, twice as many together, and its seconds are those of a step of one direction.
"""


def page(labels: dict[str, list[dict[str, Any]]]) -> str:
    """The page as Markdown, from the runs of each label."""
    parts = [HEAD]
    for label, runs in labels.items():
        recipes = order(each["recipe"] for each in runs)
        tasks = [task for task in TASKS if any(each["task"] == task for each in runs)]
        codes = dict.fromkeys(
            f"* `{each['recipe']}`: {CHECKOUTS[PEERS[each['recipe']].checkout]} {each['code']}\n"
            for each in runs
            if each["recipe"] in PEERS
        )
        parts.append(f"## {label}\n\n{describe(runs)}{''.join(codes)}")
        parts.append(ratio_table(runs, recipes, tasks, "paper"))
        parts.append(f"### {label}: all scores, relative to `paper`, mean of the tasks\n")
        parts.append(mean_table(runs, recipes, tasks))
        for task in tasks:
            own = [each for each in runs if each["task"] == task]
            parts.append(f"### {label}: {task}\n\n{score_table(own, recipes)}")
    return "\n".join(parts)


def mean_table(runs: list[dict[str, Any]], recipes: list[str], tasks: list[str]) -> str:
    """A row for each recipe: ratios to `paper` of all scores that rank runs, means over tasks, directions and seeds.

    A score counts on the tasks that have it.
    """
    having = {
        name: [task for task in tasks if any(name in each["scores"]["a2b"] for each in runs if each["task"] == task)]
        for name, metric in METRICS.items()
        if metric.ranked
    }
    ranked = {name: own for name, own in having.items() if own}
    titles = [f"{METRICS[name].label}, {METRICS[name].better} is better" for name in ranked]
    of = {recipe: [each for each in runs if each["recipe"] == recipe] for recipe in {*recipes, "paper"}}
    lines = [f"| recipe | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for recipe in recipes:
        found = [ratio(of[recipe], of["paper"], name, own) for name, own in ranked.items()]
        lines.append(f"| `{recipe}` | {' | '.join('' if each is None else f'{each[0]:.2f}' for each in found)} |")
    return "\n".join(lines) + "\n"


def read_checkouts(pairs: list[str]) -> dict[str, Path]:
    """Folders by the names of CHECKOUTS. Raises InputError unless each word is NAME=DIR, and DIR has their code."""
    found = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or name not in CHECKOUTS:
            raise InputError(f"{pair!r} is no checkout; expected {' or '.join(f'{known}=DIR' for known in CHECKOUTS)}.")
        found[name] = Path(folder).resolve()
        if not (found[name] / "models" / "networks.py").is_file():
            raise InputError(f"{folder} is no checkout of {CHECKOUTS[name]}: it has no models/networks.py.")
    return found


def main() -> None:
    parser = make_parser(__doc__, "peers", RECIPES)
    parser.add_argument("folders", nargs="+", metavar="NAME=DIR", help="checkouts: cut=DIR, dclgan=DIR")
    options = parser.parse_args()
    from peer_code import code_of

    try:
        folders = read_checkouts(options.folders)
    except InputError as error:
        parser.error(str(error))
    named = {name: folders[peer.checkout] for name, peer in PEERS.items() if peer.checkout in folders}
    options.checkouts = {name: str(folder) for name, folder in named.items()}
    options.code = {name: code_of(folder) for name, folder in named.items()}
    # All are timed beside `paper`, and compared with it.
    options.recipes = ["paper", *(recipe for recipe in options.recipes if recipe != "paper")]
    run(parser, options, Page("peers", page))


if __name__ == "__main__":
    main()
