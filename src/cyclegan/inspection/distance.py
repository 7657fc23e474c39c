"""How far apart two domains are, in the features of a network."""

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced
from cyclegan.inspection.survey import FolderReport, OnFile, read_again, unit_tensor
from cyclegan.metrics.features import FeatureInfo, FeatureNetwork
from cyclegan.metrics.functions import kernel_distance

# Images of each domain whose features are compared, at equal distances in the list; with fewer than the first number
# there is no comparison.
_FEWEST_FEATURES, _MOST_FEATURES = 10, 100


@dataclass(frozen=True)
class Distance:
    """How far apart two domains are, in features of the network `features`: the kernel distance of KID.

    low, high: its 95 % interval. half_a, half_b: the same distance between every other image of A and the rest of them,
    likewise for B: the effect of chance alone. num_a, num_b: images that were used.
    """

    value: float
    low: float
    high: float
    half_a: float
    half_b: float
    num_a: int
    num_b: int
    features: FeatureInfo


def domain_distance(a: FolderReport, b: FolderReport, on_file: OnFile = lambda *_: None) -> Distance:
    """Kernel distance of the features of up to 100 images of each domain, without slices of air.

    Raises InputError for fewer than 10 images of a domain, and if the network's package is missing or damaged.
    """
    features: tuple[list[Tensor], list[Tensor]] = ([], [])
    files = [[file for file in report.files if file not in report.air] for report in (a, b)]
    if min(map(len, files)) >= _FEWEST_FEATURES:
        network = FeatureNetwork(torch.device("cpu"))
        chosen = [(0, a, file) for file in evenly_spaced(files[0], _MOST_FEATURES)]
        chosen += [(1, b, file) for file in evenly_spaced(files[1], _MOST_FEATURES)]
        for done, (domain, report, file) in enumerate(chosen, 1):
            with suppress(UnreadableError, InputError):  # a file that was removed meanwhile
                features[domain].append(
                    network(unit_tensor(report, read_again(report, file).values, network.info.input_pixels)[None])
                )
            on_file(done, len(chosen))
    if min(map(len, features)) < _FEWEST_FEATURES:
        raise InputError(f"The domains are not compared by features, which takes {_FEWEST_FEATURES} images of each.")
    x, y = torch.cat(features[0]), torch.cat(features[1])
    half_a, half_b = (kernel_distance(half[::2], half[1::2], num_bootstrap=0)[0] for half in (x, y))
    return Distance(*kernel_distance(x, y), half_a, half_b, len(x), len(y), network.info)
