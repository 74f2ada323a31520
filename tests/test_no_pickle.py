"""Opening a stranger's file runs nothing: no unpickling in the source, and traps of every kind stay shut."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from mien.errors import ConfigError, MienError, TrainingError, WeightsError
from mien.io import arrays, cards

SOURCE = Path(__file__).parents[1] / "src" / "mien"
MODULES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
    "pandas.read_pickle",
    "torch.jit.load",
    "torch.hub.load",
}


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, (f"open({str(self.sprung)!r}, 'w').close()",))


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_module_unpickles_or_runs_text(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                assert not FORBIDDEN_MODULES & {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str() as module, names=names):
                # The error's class alone runs nothing: it is what torch raises for a trap.
                wanted = {name.name for name in names} - {"UnpicklingError"}
                assert module.partition(".")[0] not in FORBIDDEN_MODULES or not wanted
            case ast.Call(func=func, keywords=keywords, args=args):
                name = ast.unparse(func)
                given = {word.arg: ast.unparse(word.value) for word in keywords}
                assert name not in FORBIDDEN_CALLS, name
                assert given.get("allow_pickle", "False") == "False", name
                # The one call whose shell is the name of one, not a command for it.
                assert given.get("shell", "False") == "False" or name == "get_completion_script", name
                if name == "torch.load":
                    assert given.get("weights_only") == "True", "torch.load without weights_only=True"
                if name == "yaml.load":
                    assert ast.unparse(args[1]) == "_Loader", "yaml.load with another loader"


def test_the_search_itself_finds_what_it_forbids(tmp_path: Path) -> None:
    for text in (
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
        "import yaml\nyaml.load('x', yaml.Loader)",
        "eval('1')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(AssertionError):
            test_no_module_unpickles_or_runs_text(tmp_path / "bad.py")


def test_the_trap_would_spring(sprung: Path) -> None:
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()


def test_yaml_with_python_in_it_is_refused(tmp_path: Path, sprung: Path) -> None:
    from mien.config import parse_yaml
    from mien.training.config import load_config

    text = f"name: !!python/object/apply:os.mkdir ['{sprung}']\n"
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="aliases"):
        parse_yaml("a: &a [1]\nb: [*a, *a]", "x:")
    assert not sprung.exists()
    yaml.unsafe_load(text)
    assert sprung.exists()  # so the trap was a real one


def test_arrays_of_objects_are_refused(tmp_path: Path, sprung: Path) -> None:
    objects = np.empty(1, dtype=object)
    objects[0] = Trap(sprung)
    trap = tmp_path / "trap.npz"
    np.savez(trap, basis=objects, mean=objects)
    fields = dict.fromkeys(cards.REQUIRED, "") | {"sha256": hashlib.sha256(trap.read_bytes()).hexdigest()}
    cards.write(trap, fields)
    with pytest.raises(ValueError, match="pickle"):
        arrays.stored(trap)
    assert not sprung.exists()


@pytest.mark.parametrize("name", sorted(path.name for path in cards.FOLDER.rglob("*.json")))
def test_every_shipped_weight_is_refused_once_a_byte_is_changed(name: str, tmp_path: Path) -> None:
    card = next(cards.FOLDER.rglob(name))
    weights = next(path for path in card.parent.glob(f"{card.stem}.*") if path.suffix != ".json")
    (tmp_path / name).write_bytes(card.read_bytes())
    copy = tmp_path / weights.name
    data = bytearray(weights.read_bytes())
    copy.write_bytes(data)
    assert cards.verified(copy)[0] == bytes(data)
    for place in (0, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        copy.write_bytes(changed)
        with pytest.raises(WeightsError, match="SHA-256"):
            cards.verified(copy)
    copy.write_bytes(data[:-1])
    with pytest.raises(WeightsError, match="SHA-256"):
        cards.verified(copy)


def test_a_trap_in_place_of_weights_is_refused_even_with_its_own_hash(tmp_path: Path, sprung: Path) -> None:
    """A card can be forged with the weights; what it names is then still read as a network and as nothing else."""
    from mien.faces.recognise import SHIPPED, OnnxRecogniser

    trap = pickle.dumps(Trap(sprung))
    (tmp_path / "trap.onnx").write_bytes(trap)
    card = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    card["sha256"] = hashlib.sha256(trap).hexdigest()
    (tmp_path / "trap.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="cannot open"):
        OnnxRecogniser.load(tmp_path / "trap.onnx")
    assert not sprung.exists()


def torch_trap(path: Path, sprung: Path) -> Path:
    """What `torch.save` would write of a trap: a zip archive whose `data.pkl` springs it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Trap(sprung)}, protocol=2))
        archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("form", ["archive", "bare"])
@pytest.mark.parametrize("backbone", ["mobilefacenet", "alexnet", "resnet18"])
def test_no_backbone_unpickles_its_weights(backbone: str, form: str, tmp_path: Path, sprung: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("timm")
    from mien.methods.backbone import build

    path = tmp_path / "weights.pth"
    if form == "archive":
        torch_trap(path, sprung)
    else:
        path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        build(backbone, path, size=112)
    assert not sprung.exists()


def test_a_runs_state_with_a_trap_is_refused(tmp_path: Path, sprung: Path) -> None:
    torch = pytest.importorskip("torch")
    from mien.io import torch_files
    from mien.training.loop import Run, fabric_of

    task = SimpleNamespace(
        method=torch.nn.Linear(1, 1), optim=SimpleNamespace(ema=None), folder=tmp_path, budget=None
    )
    task.method.turns = ()
    for made, error in (
        (lambda path: torch_trap(path, sprung), WeightsError),
        (lambda path: path.write_bytes(b"no archive"), WeightsError),
        (lambda path: torch.save({"method": {}}, path), TrainingError),
    ):
        made(tmp_path / "state.pt")
        with pytest.raises(error, match=r"state\.pt"):
            Run(task, fabric_of("float32"), lambda kind, values: None, resume=True)
    with pytest.raises(WeightsError, match="no such file"):
        torch_files.read(tmp_path / "none.pt")
    assert not sprung.exists()


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    from mien import methods
    from mien.training import checkpoint

    options = {"name": "baseline", "backbone": "tiny"}
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, methods.build(options, 32), {"method": options, "size": 32})
    return path


def test_a_checkpoint_is_refused_once_a_bit_is_changed(checkpoint_file: Path) -> None:
    from mien.training import checkpoint

    data = checkpoint_file.read_bytes()
    body = 8 + int.from_bytes(data[:8], "little")
    for place in (body, (body + len(data)) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 4
        checkpoint_file.write_bytes(changed)
        with pytest.raises(WeightsError, match="SHA-256"):
            checkpoint.load(checkpoint_file)
    checkpoint_file.write_bytes(data.replace(b'\\"size\\": 32', b'\\"size\\": 64'))
    with pytest.raises(WeightsError, match="SHA-256"):
        checkpoint.load(checkpoint_file)
    checkpoint_file.write_bytes(data)
    assert checkpoint.load(checkpoint_file).restore() is not None


@pytest.mark.parametrize(
    "card",
    [
        "{}",
        "[]",
        '{"method": 3, "size": 32}',
        '{"method": {"name": "baseline"}}',
        '{"method": {}, "size": 32}',
    ],
)
def test_a_checkpoint_whose_card_says_nothing_is_refused(card: str, checkpoint_file: Path) -> None:
    from safetensors.torch import load_file, save_file

    from mien.training import checkpoint

    save_file(load_file(checkpoint_file), checkpoint_file, {"format": checkpoint.FORMAT, "card": card})
    reading: Callable[[], object] = lambda: checkpoint.load(checkpoint_file).restore()  # noqa: E731
    with pytest.raises(MienError):
        reading()
