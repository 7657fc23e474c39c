"""Translate many files on a cluster, and go on where an earlier call has stopped."""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.cluster.connection import check_address, connected, share_of
from cyclegan.cluster.manifest import Manifest
from cyclegan.cluster.nodes import check_nodes
from cyclegan.cluster.places import (
    LOCK,
    MANIFEST,
    Place,
    RemoteFolder,
    number_names,
    number_pairs,
    place_of,
    text_of,
)
from cyclegan.cluster.stream import stream
from cyclegan.cluster.worker import Job, Worker, table_of
from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.images.file_list import picture_suffixes
from cyclegan.images.remote import address_of, is_address, list_address
from cyclegan.sequences.registry import sequence_suffixes
from cyclegan.storage.hub import is_address as is_hub_address
from cyclegan.system.arguments import check_int, check_path
from cyclegan.system.host_state import host_state
from cyclegan.system.signals import stop_signals
from cyclegan.system.words import counted
from cyclegan.translate.folder_name import check_folder_name
from cyclegan.translate.inputs import leave_out_unusable
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan, describe_other_files, input_suffixes, sequences
from cyclegan.translate.progress import MAX_NAMED, FolderProgress, Skipped
from cyclegan.translate.recipe import Recipe
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.translator import Translator
from cyclegan.video import VIDEO_SUFFIXES, plan_translation

# Files that an actor translates in one go: enough that what Ray does between them takes no time that could be seen, and
# few enough that little is done again after a machine is lost.
_MOST_FILES = 256

# Suffixes of pictures that may be slides or animations.
_SLOW = (".svs", ".ndpi", ".mrxs", ".scn", ".gif", ".webp")

# Items for each actor at least, if there are enough files, so that all of them end at about the same time.
_ITEMS_PER_ACTOR = 8


@dataclass(frozen=True)
class ClusterResult:
    """The result of `translate_on_cluster`.

    num_done: files that this call has translated. num_existing: files whose result was there, of earlier calls.
    num_failed, failed: how many could not be translated, and the first of them with reasons. damage: sentences on
    frames that are lost. manifest: the folder, or its address, of Parquet files with a row for each file.
    """

    num_done: int
    num_existing: int
    num_failed: int
    failed: tuple[Skipped, ...]
    damage: tuple[str, ...]
    manifest: str


@host_state()
def translate_on_cluster(
    model: str | Path,
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    ray: str = "local",
    direction: Direction = "a2b",
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    weights: str | None = None,
    options: TranslateOptions | None = None,
    cpus_per_actor: float | None = None,
    gpus_per_actor: float | None = None,
    max_images: int | None = None,
    max_pixels: int | None = None,
    progress: FolderProgress | None = None,
) -> ClusterResult:
    """Translate folders of images and clips as `cyclegan translate MODEL INPUT --out OUT --ray RAY` does.

    The files are those that `translate_folder` writes with the same options. Inputs and `out` are addresses, or paths
    that are the same on all machines of the cluster. What is done is listed in OUT/.manifest, Parquet files with the
    columns source, target, state (done, existing or failed), reason and worker; the same call leaves it out and
    translates the rest. A list of another model or of other options is removed, and all is done again.

    ray: local starts a cluster of this machine and ends it; auto is the one that Ray finds; or its address, host:port.
    device: cpu, cuda or auto; Ray chooses which GPU. cpus_per_actor, gpus_per_actor: cores and GPUs (0.5 for two actors
    on each) of a process that holds the model; default: one GPU and its share of the cores; without GPUs four cores, up
    to seven where that fills a machine.
    model, inputs, direction, engine, precision, weights, max_images, max_pixels: as in `translate_folder`; options: its
    other arguments. out: a folder.

    Ray repeats what was lost with a process or a machine. Ctrl-C raises KeyboardInterrupt when the actors have ended,
    or after 15 seconds, and the list is written. Raises InputError for arguments that cannot be used, if Ray is not
    installed or no cluster answers, if its machines do not see the files, and if nothing can be written any more.
    """
    options, progress = options or TranslateOptions(), progress or FolderProgress()
    options.check()
    check_address(ray)
    for name, value in (("max_images", max_images), ("max_pixels", max_pixels)):
        if value is not None:
            check_int(name, value, least=1)
    several = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    check_folder_name(out, input_suffixes() + VIDEO_SUFFIXES, "out")
    folder = _absolute(check_path("out", out))
    paths = [_absolute(check_path("inputs", path)) for path in several]
    where = check_path("model", model)
    where = where if is_hub_address(where) else _absolute(where)

    # The plan depends on the formats of the model alone, so any engine and the CPU of this machine will do.
    translator = Translator.load(where, direction=direction, device="cpu", weights=weights)
    recipe = Recipe.of(translator, str(where), engine=engine, precision=precision)
    translator, options = options.apply(translator, progress.note)
    suffixes, here = input_suffixes() + VIDEO_SUFFIXES, [path for path in paths if not is_address(path)]
    usable, unusable = leave_out_unusable(here, folder, suffixes) if here else ([], [])
    usable += [list_address(path, VIDEO_SUFFIXES) for path in paths if is_address(path)]
    images, clips = plan_translation(usable, folder, translator, all_pages=options.pages is not None)
    if other_files := describe_other_files(images, clips):
        progress.note(other_files)
    images, clips = options.take_shard(images[:max_images]), options.take_shard(clips)
    for plan in (images, clips):
        if plan and plan.targets.root != folder:
            raise InputError(f"{out} would be a single result; give a folder, or leave out ray.")
    for source, _ in clips:
        options.check_single(source)
    place = place_of(folder)
    place.check_writable()

    work = _Work(place, options, progress, _key(recipe, options))
    work.fail(unusable)
    with ExitStack() as stack:
        stack.enter_context(place.locked())
        if place.stop is not None:
            place.stop.unlink(missing_ok=True)  # of a command that was killed
        stack.callback(place.tidy)  # when all actors have ended
        images, clips = work.leave_out(images, clips)
        if images or clips:
            progress.note("Starting Ray on this machine." if ray == "local" else f"Connecting to Ray ({ray}).")
            module = stack.enter_context(connected(ray))
            share = share_of(module, device, cpus_per_actor, gpus_per_actor)
            if ray != "local":
                check_nodes(module, __version__, _seen(recipe, translator, folder, images or clips))
            progress.note(f"Ray: up to {counted(share.count, 'actor')}, each with {share}.")
            work.run(module, images, clips, Job(recipe, share, options, folder, place.stop, max_pixels))
    return work.result()


class _Work:
    """Sends files to actors, and collects what the result holds."""

    def __init__(self, place: Place, options: TranslateOptions, progress: FolderProgress, key: str) -> None:
        self._place, self._options, self._progress = place, options, progress
        self._manifest = Manifest(place, key)
        self._reported = [np.zeros(0, np.int64)]  # numbers of targets
        self._counts = dict.fromkeys(("done", "existing", "failed"), 0)
        self._failed: list[Skipped] = []
        self._damage: list[str] = []
        self._notes: list[str] = []  # said when the progress bar is gone
        self._maker: ResultMaker | None = None

    def fail(self, inputs: list[Skipped]) -> None:
        """Count inputs that hold no files to be translated."""
        self._counts["failed"] += len(inputs)
        self._failed += inputs[:MAX_NAMED]

    def leave_out(self, *plans: TranslationPlan) -> tuple[TranslationPlan, ...]:
        """The files of plans that the manifest does not have, of the same sources."""
        targets, pairs = [self._numbers(plan) for plan in plans], [self._pairs(plan) for plan in plans]
        done = self._manifest.read(np.concatenate(targets), np.concatenate(pairs))
        there = done[:0]
        if self._options.skip_existing and isinstance(self._place, RemoteFolder):
            there = self._place.existing()
        left: list[TranslationPlan] = []
        for plan, own, pair in zip(plans, targets, pairs, strict=True):
            is_done = np.isin(pair, done) | np.isin(own, there)
            if count := int(is_done.sum()):
                self._counts["existing"] += count
                self._progress.existing(count, len(plan))
            left.append(plan.take(np.flatnonzero(~is_done)) if count else plan)
        return tuple(left)

    def run(self, ray: Any, images: TranslationPlan, clips: TranslationPlan, job: Job) -> None:
        """Translate files. Raises KeyboardInterrupt after a stop, and InputError if nothing can be done any more."""
        items = chain(_items(images, self._options, job.share.count), _single_items(clips, is_clip=True))
        with stop_signals(quiet=True) as is_asked:

            def is_stopped() -> bool:
                if is_asked() and self._place.stop is not None:
                    self._place.stop.touch()
                return is_asked()

            with self._manifest, self._progress.translating(len(images) + len(clips)) as on_done:
                for table in stream(ray, items, Worker, job, job.share, is_stopped):
                    self._take(table, on_done)
                missing = images[:0] if is_asked() or self._options.stabilise else self._missing(images)
                if missing:
                    # One file is enough for an item to end every process that takes it, so they are tried one by one.
                    for table in stream(ray, _single_items(missing), Worker, job, job.share, is_stopped):
                        self._take(table, on_done)
                if not is_asked():
                    for plan in (images, clips):
                        self._give_up(self._missing(plan), on_done)
            for note in self._notes:
                self._progress.note(note)
            if is_asked():
                raise KeyboardInterrupt
        if self._maker is not None:
            for sentence in self._maker.sentences():
                self._progress.note(sentence)

    def _numbers(self, plan: TranslationPlan) -> NDArray[np.int64]:
        return number_names(text_of(self._place.path_of(name)) for name in plan.targets.names())

    def _pairs(self, plan: TranslationPlan) -> NDArray[np.int64]:
        sources = (address_of(path) if is_address(path) else text_of(str(path)) for path in plan.sources)
        return number_pairs(sources, (text_of(self._place.path_of(name)) for name in plan.targets.names()))

    def _missing(self, plan: TranslationPlan) -> TranslationPlan:
        """The files of a plan of which no actor has said anything."""
        is_missing = ~np.isin(self._numbers(plan), np.concatenate(self._reported))
        return plan.take(np.flatnonzero(is_missing)) if is_missing.any() else plan[:0]

    def _give_up(self, plan: TranslationPlan, on_done: Callable[[Path], None]) -> None:
        """Count files as failed that have ended each process that took them."""
        why = "each process that took it has ended; it may need more memory than there is"
        pairs = zip(plan.sources, plan.targets.names(), strict=True)
        rows = [(str(source), self._place.path_of(target), "failed", why, "") for source, target in pairs]
        self._take(table_of(rows), on_done)

    def _take(self, table: Any, on_done: Callable[[Path], None]) -> None:
        """Count the files of an actor's table, add them to the manifest, and keep its messages."""
        import pyarrow as pa

        states = table["state"].to_pylist()
        is_file = np.array([state in self._counts for state in states], bool)
        files = table.filter(pa.array(is_file))
        self._manifest.add(files)
        self._reported.append(number_names(files["target"].to_pylist()))
        for row in files.select(("source", "state", "reason")).to_pylist():
            self._counts[row["state"]] += 1
            if row["state"] == "failed" and len(self._failed) < MAX_NAMED:
                self._failed.append((Path(row["source"]), row["reason"]))
            on_done(Path(row["source"]))
        for index in np.flatnonzero(~is_file).tolist():
            state, text = states[index], table["reason"][index].as_py()
            if state == "end":
                raise InputError(text)
            if state == "note" and len(self._notes) < MAX_NAMED:
                self._notes.append(text)
            elif state == "damage":
                self._damage.append(text)
            elif state == "lost":
                maker = pickle.loads(bytes.fromhex(text))
                if self._maker is None:
                    self._maker = maker
                else:
                    self._maker.include(maker)

    def result(self) -> ClusterResult:
        """The result, reported to the progress as well."""
        counts = self._counts
        if counts["failed"]:
            self._progress.skipped(self._failed, counts["failed"])
        if (others := counts["failed"] - len(self._failed)) > 0:
            self._progress.note(f"{counted(others, 'file')} more could not be translated; the list says why.")
        for message in self._damage[:MAX_NAMED]:
            self._progress.damaged(message)
        self._progress.written(counts["done"], None, None)
        self._progress.note(f"{self._place.name} lists all files (Parquet).")
        return ClusterResult(
            counts["done"],
            counts["existing"],
            counts["failed"],
            tuple(self._failed),
            tuple(self._damage),
            self._place.name,
        )


def _items(plan: TranslationPlan, options: TranslateOptions, num_actors: int) -> Iterator[Any]:
    """Tables of files that are translated together."""
    if options.stabilise:
        for frames in sequences(plan):
            names = [target.relative_to(plan.targets.root).as_posix() for _, target in frames]
            yield _item([str(source) for source, _ in frames], names)
        return
    # What may take long by itself stands alone: volumes, whole slides, animations.
    alone = tuple({*input_suffixes(), *sequence_suffixes()} - {*picture_suffixes()} | {*_SLOW})
    count = min(_MOST_FILES, -(-len(plan) // (_ITEMS_PER_ACTOR * num_actors)))
    count = max(options.min_batch_size, count // options.min_batch_size * options.min_batch_size)
    sources: list[str] = []
    targets: list[str] = []
    root = str(plan.sources.root) if plan.sources.root != Path() else ""
    for source, target in zip(plan.sources.names(), plan.targets.names(), strict=True):
        source = os.path.join(root, source)  # noqa: PTH118
        if source.lower().endswith(alone):
            yield _item([source], [target])
            continue
        sources.append(source)
        targets.append(target)
        if len(sources) == count:
            yield _item(sources, targets)
            sources, targets = [], []
    if sources:
        yield _item(sources, targets)


def _single_items(plan: TranslationPlan, *, is_clip: bool = False) -> Iterator[Any]:
    for source, target in zip(plan.sources, plan.targets.names(), strict=True):
        yield _item([str(source)], [target], is_clip=is_clip)


def _item(sources: list[str], targets: list[str], *, is_clip: bool = False) -> Any:
    import pyarrow as pa

    return pa.table(
        {
            "source": pa.array(map(os.fsencode, sources), pa.binary()),
            "target": pa.array(map(os.fsencode, targets), pa.binary()),
            "is_clip": [is_clip] * len(sources),
        }
    )


def _key(model: Recipe, options: TranslateOptions) -> str:
    """A digest of what results depend on."""
    free = ("batch_size", "skip_existing", "shard")
    values = {name: value for name, value in asdict(options).items() if name not in free}
    parts = (model.digest, model.direction, model.weights, model.engine, model.precision, sorted(values.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _absolute(path: Path) -> Path:
    """The absolute path, because actors have current folders of their own; an address as it is."""
    return path if is_address(path) else Path(os.path.abspath(path))  # noqa: PTH100


def _seen(model: Recipe, translator: Translator, out: Path, plan: TranslationPlan) -> dict[str, str]:
    """Files that every machine must see, and what each is."""
    files: dict[str, str] = {}
    if not is_address(out):
        files[str(out / MANIFEST / LOCK)] = "the folder of the results"
    if not is_address(plan.sources[0]):
        files[str(plan.sources[0])] = "the inputs"
    if translator.origin is not None and not is_hub_address(model.path):
        files[str(translator.origin.files[0])] = "the model"
    return files
