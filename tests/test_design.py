"""The rules of docs/architecture.md that a program can check."""

import subprocess
import sys
from pathlib import Path

import cyclegan

SOURCE = Path(cyclegan.__file__).parent


def test_importing_has_no_effects_and_needs_no_extras(tmp_path):
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        absent = ('tifffile', 'imagecodecs', 'tensorboard', 'mpl_toolkits', 'torchvision', 'matplotlib')\n"
        "        absent = (*absent, 'torchmetrics', 'efficientnet_lite_pytorch', 'huggingface_hub')\n"
        "        absent = (*absent, 'wandb', 'mlflow', 'av', 'onnx', 'onnxruntime', 'onnxscript', 'openvino', 'nncf')\n"
        "        if name.split('.')[0] in absent:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch\n"
        "before = torch.get_rng_state()\n"
        "import cyclegan.demo.run, cyclegan.cli\n"
        "from cyclegan import train, Translator\n"
        "assert torch.equal(before, torch.get_rng_state())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_translator_loads_no_training_code():
    code = (
        "import sys, cyclegan.translate.translator; print(sorted(m for m in sys.modules if m.startswith('cyclegan.')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cyclegan.translate.translator" in shown
    assert not any(f"'cyclegan.{name}" in shown for name in ("step", "training", "data"))


def test_torchvision_is_never_imported():
    for path in SOURCE.rglob("*.py"):
        assert "torchvision" not in path.read_text(), path
