"""Advice on the folders before training: plain sentences, each with its number."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from cyclegan.config import Config, TrainConfig
from cyclegan.data.preprocessing import scaled_size
from cyclegan.inspection.duplicates import Copies
from cyclegan.inspection.survey import Distance, FolderReport, printable

# With fewer images of a domain, the discriminator soon knows all of them.
FEW_IMAGES = 100

# One domain has this many times the images of the other.
UNEQUAL = 5.0

# Differences of mean brightness, and ratios of contrast, from which there is advice.
DARKER, FLATTER = 0.25, 2.0

# Mean contrast below which the pictures of a domain are nearly flat.
FLAT = 0.02

# Kernel distance of the default features from which two domains are called far apart. On sets of 100 images made
# from satellite photos, relief maps and icons, two styles of one subject (photo and map, two kinds of map, colours
# changed, darkened, grey) were 0.02 to 0.23 apart; different subjects (photos and icons, a portrait, text, noise, flat
# colours) 0.29 to 0.95. But blurred photos were 0.53 from sharp ones and pictures of their edges 0.44, though such a
# change of style can be learned.
FAR = 0.25

# Images that are so many times larger than the load size lose detail.
MUCH_LARGER = 2.5

# Ratio of the shorter sides of both domains from which there is advice.
OTHER_SCALE = 2.0

Topic = Literal[
    "files", "types", "channels", "range", "size", "scale", "shape", "count", "copies", "colour", "distance"
]


class Advice(Config):
    """One sentence or two. problem: something to look into before training; else something to know."""

    topic: Topic
    text: str
    problem: bool = False


def advise(
    folders: Mapping[str, FolderReport], copies: Sequence[Copies], distance: Distance | None, config: TrainConfig
) -> tuple[Advice, ...]:
    """Advice on the folders, problems first. folders: by the names A, B, test A, test B, as far as they exist.

    config: the settings that they would be trained with.
    """
    given = [
        *_files(folders),
        *_copies(folders, copies),
        *_count(folders),
        *_channels(folders, config),
        *_size(folders, config),
        *_colour(folders),
        *_distance(distance),
    ]
    return tuple(sorted(given, key=lambda advice: not advice.problem))


def _domains(folders: Mapping[str, FolderReport]) -> list[tuple[str, FolderReport]]:
    return [(name, folders[name]) for name in ("A", "B") if name in folders]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


# ---- files and types


def _files(folders: Mapping[str, FolderReport]) -> Iterator[Advice]:
    for name, folder in folders.items():
        if folder.unreadable:
            total = len(folder) + len(folder.unreadable)
            yield Advice(
                topic="files",
                problem=True,
                text=f"{len(folder.unreadable)} of the {total} images of {name} cannot be read "
                f"({printable(folder.unreadable[0][0])} is the first): replace or remove them. Training skips "
                "damaged files, and stops at values it cannot use, such as NaN.",
            )
        if len(folder.dtypes) > 1:
            yield Advice(
                topic="types",
                problem=True,
                text=f"{name} mixes types of values ({_listed(folder.dtypes)}), which training refuses: convert the "
                "files to one type.",
            )
        elif len(folder.deep_channels) > 1 or (
            folder.deep_channels and sum(folder.deep_channels.values()) < len(folder)
        ):
            yield Advice(
                topic="channels",
                problem=True,
                text=f"{name} mixes files of different channels ({_listed(folder.kinds)}), which training refuses: "
                "convert them to the same channels.",
            )
    for test, name in (("test A", "A"), ("test B", "B")):
        if test in folders and name in folders and set(folders[test].dtypes) - set(folders[name].dtypes):
            yield Advice(
                topic="types",
                problem=True,
                text=f"The values of {test} are {_listed(folders[test].dtypes)}, those of {name} "
                f"{_listed(folders[name].dtypes)}; they must be of one type.",
            )


def _channels(folders: Mapping[str, FolderReport], config: TrainConfig) -> Iterator[Advice]:
    wanted = {"A": config.model.channels_a, "B": config.model.channels_b}
    for name, folder in _domains(folders):
        letter = name.lower()
        if folder.deep_channels:
            channels = max(folder.deep_channels, key=lambda count: folder.deep_channels[count])
            if channels != wanted[name]:
                yield Advice(
                    topic="channels",
                    problem=True,
                    text=f"The images of {name} have {channels} channel{'s' if channels != 1 else ''} of "
                    f"{max(folder.dtypes, key=lambda kind: folder.dtypes[kind])}: train with "
                    f"--channels-{letter} {channels}.",
                )
        elif folder.num_grey == len(folder) and wanted[name] == 3:
            yield Advice(
                topic="channels",
                text=f"All {_images(len(folder))} of {name} are without colour: --channels-{letter} 1 makes a network "
                "that writes grey images. (There is no identity term between domains of different channels.)",
            )
        elif len(folder) <= 100 * folder.num_grey < 100 * len(folder):
            yield Advice(
                topic="channels",
                text=f"{folder.num_grey} of the {_images(len(folder))} of {name} are without colour; a translator into "
                f"{name} will learn to make such images too.",
            )
        if folder.middle is not None:
            yield _value_range(name, letter, folder, config.data.range_a if name == "A" else config.data.range_b)


def _value_range(name: str, letter: str, folder: FolderReport, given: tuple[float, float] | None) -> Advice:
    assert folder.middle is not None
    bottom, top = folder.middle
    share = (top - bottom) / max(folder.high - folder.low, 1e-12)
    what = f"set by range_{letter}" if given else "the extremes of the folder"
    text = f"Values of {name} from {folder.low:g} to {folder.high:g}, {what}, become -1 to 1."
    if 0 < share < 0.5:
        return Advice(
            topic="range",
            problem=True,
            text=f"{text} But 99.8 % of the values lie within {share:.0%} of that, {bottom:g} to {top:g}: a few "
            f"outliers take most of the range. Consider --range-{letter} {bottom:g} {top:g}, which clips them.",
        )
    return Advice(
        topic="range",
        text=f"{text} 99.8 % of them lie between {bottom:g} and {top:g}. --range-{letter} LOW HIGH sets it by hand.",
    )


# ---- copies


def _copies(folders: Mapping[str, FolderReport], copies: Sequence[Copies]) -> Iterator[Advice]:
    for found in copies:
        count, total, of = len(found.copies), len(folders[found.folder]), found.of
        if count == 0:
            continue
        kinds = f"{found.num_exact} exact, {found.num_near} nearly so"
        these = f"{count} of the {_images(total)} of {found.folder}"
        also = f"{these} {'is' if count == 1 else 'are'} also in {of} ({kinds})"
        if found.folder == of:
            what = "counted more than once in scores" if of.startswith("test") else "seen more often than others"
            text = f"{these} repeat{'s' if count == 1 else ''} another one ({kinds}); such images are {what}."
        elif {found.folder, of} == {"A", "B"}:
            text = f"{also}: discriminators learn nothing from an image in both domains. Remove it from one."
        else:
            text = f"{also}, which is trained on: scores would be better than on new images. Remove them from {of}."
        # A few repetitions inside a folder do no harm.
        yield Advice(topic="copies", text=text, problem=found.folder != of or count * 20 > total)


# ---- counts and sizes


def _count(folders: Mapping[str, FolderReport]) -> Iterator[Advice]:
    domains = _domains(folders)
    for name, folder in domains:
        if len(folder) < FEW_IMAGES:
            yield Advice(
                topic="count",
                problem=True,
                text=f"{name} has {_images(len(folder))}. With fewer than about {FEW_IMAGES} a discriminator soon "
                "memorises them, and the translator learns no more from it; several hundred are usual.",
            )
    if len(domains) == 2:
        (few, fewer), (many, more) = sorted(domains, key=lambda domain: len(domain[1]))
        ratio = len(more) / len(fewer)
        if ratio >= UNEQUAL:
            yield Advice(
                topic="count",
                problem=True,
                text=f"{many} has {len(more)} images and {few} {len(fewer)}. An epoch is one pass over {many}, in "
                f"which each image of {few} comes {ratio:.0f} times: {few} may be memorised.",
            )


def _size(folders: Mapping[str, FolderReport], config: TrainConfig) -> Iterator[Advice]:
    domains = _domains(folders)
    data = config.data
    crop, load = data.crop_size, data.resolved_load_size
    sides = " and ".join(f"{folder.short_side} pixels ({name})" for name, folder in domains)
    side = min(folder.short_side for _, folder in domains)
    typical = f"The shorter side of an image is typically {sides}."
    recipe = f"--crop-size {crop} with --preprocess {data.preprocess}"
    # As in the demo: the load size is that of the images, the crop has the paper's proportion.
    fitting = max(side * 256 // 286 // 4 * 4, config.model.smallest_crop)

    if data.preprocess == "resize-and-crop":
        growth = load / side
        if growth > 1.15 and fitting < crop:
            yield Advice(
                topic="size",
                problem=growth > 1.5,
                text=f"{typical} {recipe} enlarges it to {load}, {growth:.1f} times, which costs time and adds no "
                f"detail: --crop-size {fitting} fits.",
            )
        elif 1 / growth > MUCH_LARGER:
            yield Advice(
                topic="size",
                problem=True,
                text=f"{typical} {recipe} reduces it to {load}, {1 / growth:.1f} times: finer detail is never learned. "
                "For detail, --preprocess crop takes crops at full scale; a larger --crop-size costs time and memory.",
            )
        else:
            yield Advice(topic="size", text=f"{typical} {recipe} resizes all to {load}x{load} and fits.")
    for name, folder in domains:
        scaled = min(scaled_size(folder.smallest.height, folder.smallest.width, data))
        if data.crops and scaled < crop:
            yield Advice(
                topic="size",
                problem=True,
                text=f"{printable(folder.smallest.file)} of {name} is {folder.smallest.width}x{folder.smallest.height} "
                f"pixels, smaller than the crop of {crop} of {recipe}, which training refuses.",
            )
        if data.preprocess == "resize-and-crop" and max(folder.aspect, 1 / folder.aspect) > 1.3:
            yield Advice(
                topic="shape",
                text=f"Images of {name} are typically {folder.aspect:.2f} times as wide as high, and resize-and-crop "
                "makes squares of them; --preprocess scale-short-side-and-crop keeps shapes.",
            )
    if len(domains) == 2:
        ratio = max(folder.short_side for _, folder in domains) / side
        if ratio >= OTHER_SCALE:
            yield Advice(
                topic="scale",
                problem=True,
                text=f"{typical} That is {ratio:.1f} times as much in one domain: once resized, one may be sharper "
                "than the other or show things larger, and the translators will learn that too.",
            )


# ---- brightness, colour, features


def _colour(folders: Mapping[str, FolderReport]) -> Iterator[Advice]:
    domains = _domains(folders)
    for name, folder in domains:
        if folder.colour.contrast < FLAT:
            yield Advice(
                topic="colour",
                problem=True,
                text=f"The images of {name} are nearly flat: brightness varies by {folder.colour.contrast:.3f} of the "
                "range within an image, so there is little to learn.",
            )
    if len(domains) < 2:
        return
    (dark, darker), (bright, brighter) = sorted(domains, key=lambda domain: domain[1].colour.brightness)
    if brighter.colour.brightness - darker.colour.brightness > DARKER:
        yield Advice(
            topic="colour",
            text=f"{dark} is much darker than {bright}: mean brightness {darker.colour.brightness:.2f} and "
            f"{brighter.colour.brightness:.2f} of the range. If that is not part of what is to be learned, make "
            "exposures or value ranges alike first.",
        )
    (flat, flatter), (rich, richer) = sorted(domains, key=lambda domain: domain[1].colour.contrast)
    if flatter.colour.contrast * FLATTER < richer.colour.contrast:
        yield Advice(
            topic="colour",
            text=f"{flat} is much flatter than {rich}: brightness varies by {flatter.colour.contrast:.3f} and "
            f"{richer.colour.contrast:.3f} of the range within an image. The way back must invent what {flat} cannot "
            "show.",
        )


def _distance(distance: Distance | None) -> Iterator[Advice]:
    if distance is None:
        return
    chance = max(abs(distance.half_a), abs(distance.half_b))
    measured = (
        f"The kernel distance of A and B is {distance.value:.2f} in {distance.features.label}; two halves of one "
        f"domain are at most {chance:.2f} apart. In trials two styles of one subject were 0.02 to 0.23 apart, "
        "different subjects 0.29 and more."
    )
    if distance.value >= FAR:
        yield Advice(
            topic="distance",
            problem=True,
            text=f"{measured} So look at both: do they show the same kind of things? CycleGAN changes how things look, "
            "rarely what they are. (Sharp and blurred images of one subject are as far apart, and can be learned.)",
        )
    else:
        yield Advice(
            topic="distance",
            text=f"{measured} So they seem to show the same kind of things; that says little of how hard it is.",
        )
