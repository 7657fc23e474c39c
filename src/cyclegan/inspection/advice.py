"""Advice on the folders before training: plain sentences, each with its number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from cyclegan.config import TrainConfig
from cyclegan.data.preprocessing import scaled_size
from cyclegan.inspection.distance import Distance
from cyclegan.inspection.duplicates import Copies
from cyclegan.inspection.survey import FolderReport
from cyclegan.system.terminal import printable
from cyclegan.system.words import counted

# With fewer images of a domain, the discriminator soon memorises all of them.
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

# Ratio of pixel sizes on the earth from which there is advice; UTM zones and latitudes differ by less.
OTHER_PIXEL = 1.05

_RESAMPLE = "Resample the images to one size, such as with gdalwarp -tr 10 10 -r average."

# Names in a sentence, before "and N more".
_MOST_NAMES = 4

Topic = Literal[
    "files",
    "types",
    "channels",
    "range",
    "holes",
    "size",
    "scale",
    "shape",
    "place",
    "count",
    "copies",
    "colour",
    "distance",
]

Folders = Mapping[str, FolderReport]

_images = partial(counted, noun="image")


@dataclass(frozen=True)
class Advice:
    """One sentence or two. problem: look into it before training; else it is good to know."""

    topic: Topic
    text: str
    problem: bool = True


def advise(
    folders: Folders, copies: Sequence[Copies], distance: Distance | None, config: TrainConfig
) -> tuple[Advice, ...]:
    """Advice on the folders, problems first. folders: by the names A, B, test A, test B, as far as they exist.

    config: the settings for training on them.
    """
    domains = {name: folders[name] for name in ("A", "B") if name in folders}
    given = [
        *_files(folders),
        *_holes(folders),
        *_copies(folders, copies),
        *_count(domains),
        *_channels(domains, config),
        *_size(domains, config),
        *_places(domains, config),
        *_colour({name: folder for name, folder in domains.items() if folder.suspect is None}),
        *_distance(None if any(folder.suspect for folder in domains.values()) else distance),
    ]
    return tuple(sorted(given, key=lambda advice: not advice.problem))


def listed(counts: Mapping[str, int]) -> str:
    """Such as 10 uint8, 1 uint16."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def percent(share: float) -> str:
    """A share in percent; a small one with a digit that is not 0."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "under 0.1%"


# ---- files and types


def _files(folders: Folders) -> Iterator[Advice]:
    for name, folder in folders.items():
        if folder.unreadable:
            yield Advice(
                "files",
                f"{len(folder.unreadable)} of the {len(folder) + len(folder.unreadable)} images of {name} cannot be "
                f"read ({printable(folder.unreadable[0][0])} is the first): replace or remove them. Training "
                "passes over such files.",
            )
        if air := len(folder.air):
            have = "has a single value" if air == 1 else "have a single value each"
            yield Advice(
                "files",
                f"{air} of the {_images(len(folder))} of {name} {have}, as slices of air: training passes "
                "over such slices of volumes, scores leave them out, and they count as no copies.",
                problem=False,
            )
        deep = folder.deep_channels
        if len(folder.dtypes) > 1:
            usual, count = max(folder.dtypes.items(), key=lambda item: item[1])
            happens = f"training uses the {count} {usual} alone" if 2 * count > len(folder) else "training refuses that"
            yield Advice(
                "types",
                f"{name} mixes types of values ({listed(folder.dtypes)}): {happens}. Convert the files to one type.",
            )
        elif len(deep) > 1 or 0 < sum(deep.values()) < len(folder):
            yield Advice(
                "channels",
                f"{name} mixes files with different channels ({listed(folder.kinds)}): training uses those with the "
                f"channels of --channels-{name[-1].lower()} alone, and only if they are most. Convert them to the same "
                "channels.",
            )
        trained = folders.get(name.removeprefix("test "), folder)
        if set(folder.dtypes) - set(trained.dtypes):
            yield Advice(
                "types",
                f"The values of {name} are {listed(folder.dtypes)}, those of {name.removeprefix('test ')} "
                f"{listed(trained.dtypes)}; they must be of one type.",
            )


def _holes(folders: Folders) -> Iterator[Advice]:
    for name, folder in folders.items():
        holes, suspect, letter = folder.holes, folder.suspect, name[-1].lower()
        if holes is not None:
            text = (
                f"{holes.num_images} of the {_images(len(folder))} of {name} "
                f"{'has' if holes.num_images == 1 else 'have'} holes, {percent(holes.share)} of all pixels, marked by "
                f"{' and '.join(holes.marked)}. They count in no number here, and training and scores leave them out."
            )
            if holes.num_mostly_hole:
                text += f" In {_images(holes.num_mostly_hole)} more than half is hole; crops like that are not used."
            if any(marked.startswith("no data") for marked in holes.marked):
                text += f" To take all numbers for values, pass --nodata-{letter} none."
            if "transparent pixels" in holes.marked:
                text += f" --background-{letter} white puts a colour behind transparent pixels instead."
            yield Advice("holes", text, problem=holes.num_mostly_hole > 0)
        if suspect is not None:
            yield Advice(
                "holes",
                f"{percent(suspect.share)} of the values of {name} are {suspect.value:.9g}, and all others lie from "
                f"{suspect.low:g} to {suspect.high:g}. If it marks pixels without a value, pass "
                f"--nodata-{letter}={suspect.value:.9g}; else the range of training is {folder.low:g} to "
                f"{folder.high:g}.",
            )


def _channels(domains: Folders, config: TrainConfig) -> Iterator[Advice]:
    settings = {
        "A": (config.model.channels_a, config.data.range_a),
        "B": (config.model.channels_b, config.data.range_b),
    }
    for name, folder in domains.items():
        if len(folder.dtypes) > 1:  # which is advised on already, and no setting can help
            continue
        (wanted, given_range), flag = settings[name], f"--channels-{name.lower()}"
        if folder.deep_channels:
            channels = max(folder.deep_channels, key=lambda count: folder.deep_channels[count])
            if channels != wanted:
                choice = ""
                if wanted < channels:
                    some = ",".join(map(str, range(1, wanted + 1)))
                    choice = f", or choose bands such as --bands-{name.lower()} {some}"
                yield Advice(
                    "channels",
                    f"The images of {name} have {counted(channels, 'channel')} of {next(iter(folder.dtypes))}: train "
                    f"with {flag} {channels}{choice}.",
                )
        elif folder.num_grey == len(folder) and wanted == 3:
            yield Advice(
                "channels",
                f"All {_images(len(folder))} of {name} are without colour: with {flag} 1 the network writes grey "
                "images. (There is no identity loss between domains with different channels.)",
                problem=False,
            )
        elif len(folder) <= 100 * folder.num_grey < 100 * len(folder):
            yield Advice(
                "channels",
                f"{folder.num_grey} of the {_images(len(folder))} of {name} {'is' if folder.num_grey == 1 else 'are'} "
                f"without colour; a translator into "
                f"{name} will learn to make such images too.",
                problem=False,
            )
        if folder.middle is not None and folder.suspect is None:
            if given_range is None:
                yield _value_range(name, folder, folder.middle)
            else:
                yield _given_range(name, folder, folder.middle)


def _value_range(name: str, folder: FolderReport, middle: tuple[float, float]) -> Advice:
    flag, (bottom, top) = f"--range-{name.lower()}", middle
    share = (top - bottom) / max(folder.high - folder.low, 1e-12)
    text = f"Values of {name} from {folder.low:g} to {folder.high:g}, the extremes of the folder, become -1 to 1."
    if 0 < share < 0.5:
        return Advice(
            "range",
            f"{text} But 99.8 % of the values lie within {share:.0%} of that, {bottom:g} to {top:g}: a few outliers "
            f"take most of the range. Consider {flag} {bottom:g} {top:g}, which clips them.",
        )
    text += f" 99.8 % of them lie between {bottom:g} and {top:g}. {flag} LOW HIGH sets it by hand."
    return Advice("range", text, problem=False)


def _given_range(name: str, folder: FolderReport, middle: tuple[float, float]) -> Advice:
    flag, (bottom, top) = f"--range-{name.lower()}", middle
    text = f"Values of {name} from {folder.low:g} to {folder.high:g}, set by {flag}, become -1 to 1."
    if folder.clipped:
        text += f" {percent(folder.clipped)} of the values lie outside and are clipped."
    used = (min(top, folder.high) - max(bottom, folder.low)) / max(folder.high - folder.low, 1e-12)
    if bottom < top and used < 0.5:
        return Advice(
            "range",
            f"{text} But 99.8 % of all lie between {bottom:g} and {top:g}, and leave most of the range empty.",
        )
    return Advice("range", text, problem=False)


# ---- copies


def _copies(folders: Folders, copies: Sequence[Copies]) -> Iterator[Advice]:
    for found in copies:
        count, total, of = len(found.copies), len(folders[found.folder]), found.of
        if count == 0:
            continue
        these = f"{count} of the {_images(total)} of {found.folder}"
        also = f"{these} {'is' if count == 1 else 'are'} also in {of} ({found.counts})"
        if found.folder == of:
            what = "counted more than once in scores" if of.startswith("test") else "seen more often than others"
            text = f"{these} repeat{'s' if count == 1 else ''} another one ({found.counts}); such images are {what}."
        elif {found.folder, of} == {"test A", "test B"}:
            text = (
                f"{also}. Scores compare translations of one with the other, so an image that is in both says nothing "
                f"about a translator. Remove {'it' if count == 1 else 'them'} from one."
            )
        elif {found.folder, of} == {"A", "B"}:
            text = f"{also}: discriminators learn nothing from an image in both domains. Remove it from one."
        else:
            it = "it" if count == 1 else "them"
            text = f"{also}, which is trained on: scores would be better than on new images. Remove {it} from {of}."
        # A few repetitions inside a folder do no harm.
        yield Advice("copies", text, problem=found.folder != of or count * 20 > total)


# ---- counts and sizes


def _count(domains: Folders) -> Iterator[Advice]:
    for name, folder in domains.items():
        if len(folder) < FEW_IMAGES:
            yield Advice(
                "count",
                f"{name} has {_images(len(folder))}. With fewer than about {FEW_IMAGES}, a discriminator soon "
                "memorises them, and the translator learns no more from it; several hundred are usual.",
            )
    counts = {name: len(folder) for name, folder in domains.items()}
    few, many = (pick(counts, key=lambda name: counts[name]) for pick in (min, max))
    ratio = counts[many] / counts[few]
    if ratio >= UNEQUAL:
        yield Advice(
            "count",
            f"{many} has {counts[many]} images and {few} {counts[few]}. An epoch is one pass over {many}, in which "
            f"each image of {few} comes {ratio:.0f} times: {few} may be memorised.",
        )


def _size(domains: Folders, config: TrainConfig) -> Iterator[Advice]:
    data = config.data
    crop, load = data.crop_size, data.resolved_load_size
    sides = " and ".join(f"{folder.short_side} pixels ({name})" for name, folder in domains.items())
    side = min(folder.short_side for folder in domains.values())
    typical = f"The shorter side of an image is typically {sides}."
    recipe = f"Training with --crop-size {crop} and --preprocess {data.preprocess}"
    # As in the demo: the load size is that of the images, the crop has the paper's proportion.
    fitting = max(side * 256 // 286 // 4 * 4, config.model.smallest_crop)

    if data.preprocess == "resize-and-crop":
        growth = load / side
        if growth > 1.15 and fitting > side:
            yield Advice(
                "size",
                f"{typical} {recipe} enlarges it to {load}, {growth:.1f} times, which adds no detail. These images are "
                f"smaller than the smallest crop of the networks, {config.model.smallest_crop}: larger images would "
                "teach more.",
                problem=growth > 1.5,
            )
        elif growth > 1.15 and fitting < crop:
            yield Advice(
                "size",
                f"{typical} {recipe} enlarges it to {load}, {growth:.1f} times, which costs time and adds no detail: "
                f"--crop-size {fitting} fits.",
                problem=growth > 1.5,
            )
        elif 1 / growth > MUCH_LARGER:
            yield Advice(
                "size",
                f"{typical} {recipe} reduces it to {load}, {1 / growth:.1f} times: finer detail is never learned. For "
                "detail, --preprocess crop takes crops at full scale; a larger --crop-size costs time and memory.",
            )
        else:
            yield Advice("size", f"{typical} {recipe} resizes all to {load}x{load} and fits.", problem=False)
    for name, folder in domains.items():
        smallest = folder.smallest
        if data.crops and min(scaled_size(smallest.height, smallest.width, data)) < crop:
            yield Advice(
                "size",
                f"{printable(smallest.file)} of {name} is {smallest.width}x{smallest.height} pixels, smaller than the "
                f"crop of training with --crop-size {crop}, which refuses it.",
            )
        if data.preprocess == "resize-and-crop" and max(folder.aspect, 1 / folder.aspect) > 1.3:
            yield Advice(
                "shape",
                f"Images of {name} are typically {folder.aspect:.2f} times as wide as high, and resize-and-crop makes "
                "squares of them; --preprocess scale-short-side-and-crop keeps shapes.",
                problem=False,
            )
    ratio = max(folder.short_side for folder in domains.values()) / side
    if ratio >= OTHER_SCALE:
        yield Advice(
            "scale",
            f"{typical} That is {ratio:.1f} times as much in one domain: once resized, one may be sharper than the "
            "other or show things larger, and the translators will learn that too.",
        )


# ---- places on the earth


def _places(domains: Folders, config: TrainConfig) -> Iterator[Advice]:
    found = {name: folder.places for name, folder in domains.items() if folder.places is not None}
    bands = {"A": config.data.bands_a, "B": config.data.bands_b}
    for name, places in found.items():
        if places.metres is not None and places.metres[1] > OTHER_PIXEL * places.metres[0]:
            yield Advice(
                "place",
                f"The pixels of {name} have {len(places.pixels)} sizes on the earth ({_some_of(places.pixels)}), so "
                f"things are larger in some images than in others. {_RESAMPLE}",
            )
        if 0 < places.in_degrees < places.num_images:
            yield Advice(
                "place",
                f"{places.in_degrees} of the {_images(places.num_images)} of {name} lie in degrees and the others do "
                f"not ({_some_of(places.systems)}), which training refuses; reproject one kind with gdalwarp -t_srs.",
            )
        if len(places.bands) > 1 and not bands[name]:
            example = next(iter(places.bands)).replace(" ", "")
            yield Advice(
                "place",
                f"The bands of {name} are called differently ({_some_of(places.bands)}), and training takes them by "
                f"their order. Choose them by name, such as --bands-{name.lower()} {printable(example)}.",
            )
    if len(found) < 2:
        return
    a, b = found["A"], found["B"]
    if a.metres is not None and b.metres is not None:
        mean_a, mean_b = (sum(places.metres or ()) / 2 for places in (a, b))
        ratio = max(mean_a, mean_b) / min(mean_a, mean_b)
        if ratio > OTHER_PIXEL:
            yield Advice(
                "place",
                f"A pixel of A is {_some_of(a.pixels)} on the earth and one of B {_some_of(b.pixels)}: things are "
                f"{ratio:.3g} times as large in one domain, and the translators will learn that, too. {_RESAMPLE}",
            )
    if a.systems.keys() != b.systems.keys():
        in_degrees = [bool(places.in_degrees) for places in (a, b)]
        text = f"A lies in {_some_of(a.systems)} and B in {_some_of(b.systems)}; nothing is reprojected."
        if in_degrees[0] != in_degrees[1]:
            text += (
                " Away from the equator pixels of degrees are narrower on the ground than high, so shapes differ "
                "between the domains: reproject one with gdalwarp -t_srs."
            )
        yield Advice("place", text, problem=in_degrees[0] != in_degrees[1])


def _some_of(counts: Mapping[str, int]) -> str:
    """One name alone, or several with their counts."""
    names = list(counts)
    if len(names) == 1:
        return printable(names[0])
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return printable(listed({name: counts[name] for name in names[:_MOST_NAMES]})) + more


# ---- brightness, colour, features


def _colour(domains: Folders) -> Iterator[Advice]:
    if not domains:
        return
    for name, folder in domains.items():
        if folder.colour.contrast < FLAT:
            yield Advice(
                "colour",
                f"The images of {name} are nearly flat: brightness varies by {folder.colour.contrast:.3f} of the range "
                "within an image, so there is little to learn.",
            )
    colours = {name: folder.colour for name, folder in domains.items()}
    dark, bright = (pick(colours, key=lambda name: colours[name].brightness) for pick in (min, max))
    low, high = colours[dark].brightness, colours[bright].brightness
    if high - low > DARKER:
        yield Advice(
            "colour",
            f"{dark} is much darker than {bright}: mean brightness {low:.2f} and {high:.2f} of the range. If the "
            "translators should not learn that, make exposures or value ranges alike first.",
            problem=False,
        )
    flat, rich = (pick(colours, key=lambda name: colours[name].contrast) for pick in (min, max))
    low, high = colours[flat].contrast, colours[rich].contrast
    if low * FLATTER < high:
        yield Advice(
            "colour",
            f"{flat} is much flatter than {rich}: brightness varies by {low:.3f} and {high:.3f} of the range within "
            f"an image. The way back must invent what {flat} cannot show.",
            problem=False,
        )


def _distance(distance: Distance | None) -> Iterator[Advice]:
    if distance is None:
        return
    is_far = distance.value >= FAR
    text = (
        f"The kernel distance of A and B is {distance.value:.2f} in {distance.features.label}; two halves of one "
        f"domain are at most {max(abs(distance.half_a), abs(distance.half_b)):.2f} apart. In trials two styles of one "
        "subject were 0.02 to 0.23 apart, different subjects 0.29 and more. "
    )
    if is_far:
        text += (
            "So look at both: do they show the same kind of things? CycleGAN changes how things look, rarely what they "
            "are. (Sharp and blurred images of one subject are as far apart, and can be learned.)"
        )
    else:
        text += "So they seem to show the same kind of things, which says little about how hard the task is."
    yield Advice("distance", text, problem=is_far)
