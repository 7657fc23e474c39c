"""The rules of docs/architecture.md that a program can check."""

import ast
import subprocess
import sys
from pathlib import Path

import cyclegan

SOURCE = Path(cyclegan.__file__).parent

# A module may import modules of lower floors, and of its own floor only those that stand before it here.
FLOORS = [
    ["_version", "config", "files", "ahead"],
    [
        *("file_list", "images", "headers", "metrics", "distributed", "parallel", "working", "progress", "hub"),
        *("datasets", "networks", "features", "environment", "health", "torch_files"),
    ],
    [
        *("losses", "reference", "reference_options", "reference_command", "reference_equivalent", "image_folder"),
        *(
            "data",
            "schedule",
            "train_state",
            "step",
            "recording",
            "tuning",
            "scores",
            "stabilise",
            "tiling",
            "tiff_regions",
        ),
    ],
    [
        *("checkpoint", "engines", "translate", "partial_result", "large_images", "translate_files", "video"),
        *("held_out", "run_directory", "fine_tuning", "trackers", "run_log", "round_trip", "examples", "inception"),
    ],
    ["validation", "domain_images", "report", "inspection", "importing", "export"],
    ["evaluation", "monitor", "training", "demo", "card_subject", "model_card", "push", "benchmark"],
    ["cli", "__main__"],
]


def imports(path):
    """Modules of this package that a file names in imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cyclegan"):
            yield node.module.split(".")[1] if "." in node.module else "_version"
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("cyclegan."):
                    yield name.name.split(".")[1]


def test_each_floor_imports_only_floors_below_it():
    order = {name: (floor, place) for floor, names in enumerate(FLOORS) for place, name in enumerate(names)}
    files = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py"]
    for path in files:
        module = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        assert module in order, f"{module} has no floor yet"
        for imported in imports(path):
            assert imported == module or order[imported] < order[module], f"{module} imports {imported}"


def test_public_names_exist_and_are_all():
    assert set(cyclegan.__all__) == set(cyclegan._HOMES) | {"__version__"}
    for name in cyclegan.__all__:
        assert getattr(cyclegan, name) is not None
    assert callable(cyclegan.train)


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
        "import cyclegan.demo, cyclegan.cli\n"
        "from cyclegan import train, Translator\n"
        "assert torch.equal(before, torch.get_rng_state())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_begins_at_a_translator_loads_no_training_code():
    code = "import sys, cyclegan.translate; print(sorted(m for m in sys.modules if m.startswith('cyclegan.')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cyclegan.translate" in shown
    assert not any(f"cyclegan.{name}'" in shown for name in ("step", "losses", "training", "data"))


def test_torchvision_is_never_imported():
    for path in SOURCE.rglob("*.py"):
        assert "torchvision" not in path.read_text(), path
