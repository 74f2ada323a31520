"""scripts/gpu_campaign.py: files come back byte for byte, a torn pack is refused, finished runs come back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "gpu_campaign.py"


@pytest.fixture(scope="module")
def campaign(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of noise, of one byte, of none, and a folder behind a link, as a data folder often is."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    found = {f"set/train/{number}.png": random.bytes(3_000 + number) for number in range(40)}
    found |= {"set/votes.csv": "name,stimme\nä,1\n".encode() * 50, "set/empty": b"", "weights.pt": b"\0"}
    for name, data in found.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    Path("elsewhere").mkdir()
    Path("elsewhere/face.png").write_bytes(b"face")
    Path("cache").symlink_to("elsewhere")
    return found | {"cache/face.png": b"face"}


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_come_back_byte_for_byte_in_parts_of_limited_size(
    campaign: ModuleType, files: dict[str, bytes], tmp_path: Path
) -> None:
    paths = [Path("set"), Path("weights.pt"), Path("cache/face.png")]
    assert campaign.pack(Path("parts"), paths, limit=20_000) == len(files)
    sizes = [path.stat().st_size for path in sorted(Path("parts").glob("part-*"))]
    assert len(sizes) > 5
    assert all(size == 20_000 for size in sizes[:-1])
    assert 0 < sizes[-1] <= 20_000
    assert campaign.unpack(Path("parts"), Path("there")) == len(files)
    assert read(Path("there")) == files


def test_a_missing_or_damaged_part_is_named_before_anything_is_written(
    campaign: ModuleType, files: dict[str, bytes]
) -> None:
    campaign.pack(Path("parts"), [Path("set")], limit=20_000)
    part = Path("parts/part-002")
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(campaign.PackError, match="part-002 is damaged"):
        campaign.unpack(Path("parts"), Path("there"))
    part.unlink()
    with pytest.raises(campaign.PackError, match="part-002 is missing"):
        campaign.unpack(Path("parts"), Path("there"))
    assert not Path("there").exists()
    with pytest.raises(campaign.PackError, match="holds a pack"):
        campaign.pack(Path("parts"), [Path("set")])


def test_only_what_has_the_same_path_on_both_sides_is_packed(
    campaign: ModuleType, files: dict[str, bytes]
) -> None:
    for path, words in (("/etc/hosts", "relative"), ("../x", "relative"), ("nowhere", "does not exist")):
        with pytest.raises(campaign.PackError, match=words):
            campaign.pack(Path("parts"), [Path(path)])
    assert not Path("parts").exists()


@pytest.mark.slow
def test_a_campaign_brings_predictions_back_and_the_sweep_goes_on_from_them(
    campaign: ModuleType, tmp_path: Path
) -> None:
    from mien.data.readers import manifest
    from mien.data.synthetic import drawings

    here, there = tmp_path / "here", tmp_path / "there"
    (here / "drawn").mkdir(parents=True)
    there.mkdir()
    records = drawings.records(here / "drawn", 120, size=48)
    marks = np.stack([face.landmarks for face in drawings.faces(120, size=48)]).astype(np.float32)
    np.savez(here / "drawn" / "points.npz", names=np.array([one.name for one in records]), points=marks)
    manifest.write(records, here / "drawn" / "manifest.csv")
    data = {"reader": "manifest", "root": "drawn", "points": "drawn/points.npz", "size": 32}
    base = {"name": "x", "method": {"name": "baseline", "backbone": "tiny"}, "data": data, "batch": 16}
    tree = {"base": base | {"epochs": 1}, "arms": {"a": None, "b": {"optim.rate": 0.01}}, "out": "runs/out"}
    for side in (here, there):
        (side / "sweep.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def call(side: Path, *given: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *given]
        return subprocess.run(command, cwd=side, capture_output=True, text=True, check=True)

    call(here, str(SCRIPT), "pack", "../parts", "drawn")
    call(there, str(SCRIPT), "unpack", "../parts")
    run = ("--device", "cpu", "--workers", "1", "--back", "../back")
    call(there, str(SCRIPT), "run", "sweep.yaml", *run)
    call(here, str(SCRIPT), "unpack", "../back")
    done = call(here, "-m", "mien", "sweep", "sweep.yaml", "--draws", "20")
    assert "2 of 2 runs were done before" in done.stderr
    for arm in ("a", "b"):
        name = f"runs/out/runs/{arm}-s0/predictions.parquet"
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert not list(here.rglob("*.safetensors"))
