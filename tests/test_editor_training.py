"""The learned corrector and the generators it is compared with: what they start from, learn, export and draw."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.readers.ferplus import USAGES, VOTE_FILE
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.data.transforms import normalise
from mien.editing.corrector import SIDE, OnnxCorrector, corrected, views
from mien.editing.edit_video import TemporalCorrector
from mien.editing.editor import Editor, asked_plan
from mien.editing.geometry import ACTIVE, Geometry
from mien.editing.photo import Photo
from mien.editing.plan import Plan
from mien.editing.render import render
from mien.editing.shading import Shading
from mien.editing.target import Target
from mien.editing.warp import FOLD_LIMIT
from mien.errors import ConfigError, TrainingError, WeightsError
from mien.evaluation.editor import editors
from mien.io import cards, images, torch_files
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.methods.base import Batch
from mien.methods.meca import MECA, MECAConfig
from mien.methods.mobilefacenet import MobileFaceNet
from mien.training import checkpoint
from mien.training.editor import edit_pairs
from mien.training.editor import train as training
from mien.training.editor.losses import Guided, disturbed, size_of, wanted
from mien.training.editor.networks import Change, drawn

FACES = 64
Overfit = Callable[..., tuple[float, float]]


@pytest.fixture(scope="module")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Drawn faces in FERPlus's layout with votes, and their landmarks by name."""
    root = tmp_path_factory.mktemp("ferplus")
    table, names, points = [], [], []
    for number, face in enumerate(drawn_faces(FACES, size=48, colour=False)):
        usage = "Training"
        names.append(f"fer{number:07}.png")
        (root / USAGES[usage]).mkdir(exist_ok=True)
        images.write(root / USAGES[usage] / names[-1], face.pixels)
        votes = [0] * 10
        votes[face.expression] = 10
        table.append([usage, names[-1], *votes])
        points.append(face.landmarks)
    for usage in ("PublicTest", "PrivateTest"):
        (root / USAGES[usage]).mkdir()
        name = f"{usage}.png"
        images.write(root / USAGES[usage] / name, drawn_faces(1, size=48)[0].pixels)
        table.append([usage, name, 10, *[0] * 9])
    with (root / "fer2013new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([VOTE_FILE, *table])
    np.savez(root / "points.npz", names=names, points=np.stack(points).astype(np.float32))
    return root, root / "points.npz"


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory, ferplus: tuple[Path, Path]) -> Path:
    """A small meca that has learnt drawn faces for a few seconds."""
    torch.manual_seed(0)
    method = MECA(MECAConfig(backbone="compact", attention=False, code=8), SIDE)
    pictures = np.stack([face.pixels[..., 0] for face in drawn_faces(FACES, size=SIDE, colour=False)])
    labels = torch.tensor([face.expression for face in drawn_faces(FACES, size=SIDE, colour=False)])
    luma = torch.from_numpy(pictures).float()[:, None].expand(-1, 3, -1, -1) / 255
    optimiser = torch.optim.AdamW(method.parameters(), 3e-3)
    votes = torch.nn.functional.one_hot(labels, len(EXPRESSIONS)).float()
    unknown = torch.full((FACES, 2), torch.nan)
    for _ in range(25):
        batch = Batch(normalise(luma), labels, unknown, votes, torch.zeros(FACES, dtype=torch.long), {})
        loss = torch.stack(list(method(batch, "model").values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("guide") / "weights.safetensors"
    options = {"name": "meca", "backbone": "compact", "attention": False, "code": 8}
    checkpoint.save(path, method.eval(), {"method": options, "size": SIDE})
    return path


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edits")


@pytest.fixture
def tree(ferplus: tuple[Path, Path], guide: Path, edits: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration of a few steps on drawn faces."""
    return {
        "method": {"name": "editor", "kind": "corrector"},
        "ferplus": str(ferplus[0]),
        "points": str(ferplus[1]),
        "bank": str(edits),
        "faces": 40,
        "guides": [str(guide)],
        "out": str(tmp_path / "run"),
        "steps": 2,
        "batch": 8,
        "amount": 0.7,
    }


def trained(tree: dict[str, Any], **more: Any) -> training.Training:
    """The training of a configuration, before its first step."""
    config = training.configured({**tree, **more}, "test")
    config.out.mkdir(parents=True, exist_ok=True)
    from mien.data.readers import READERS

    records = [r for r in READERS["ferplus"](config.ferplus) if r.split == "train"]
    points = training.read_points(config.points)
    faces = edit_pairs.build(config.bank, records, points, config.faces, config.seed, lambda line: None)
    return training.Training(config, faces, lambda line: None)


@pytest.fixture(scope="module")
def plan() -> tuple[Photo, Plan]:
    """A drawn face and the plan of a smile on it."""
    face = drawn_faces(1, size=256, classes=("neutral",))[0]
    shares = np.eye(len(EXPRESSIONS))[NEUTRAL]
    located = edit_pairs.located(face.pixels, face.landmarks, shares)
    return Photo(face.pixels), asked_plan(Geometry.load(), located, Target.parse("happiness"), 0.8)


# What they start from


@pytest.mark.parametrize("kind", ["corrector", "skip"])
def test_untrained_they_change_nothing(tree: dict[str, Any], kind: str) -> None:
    begun = trained(tree, method={"name": "editor", "kind": kind})
    faces = begun.rows(np.arange(12))
    shown = faces.after if kind == "corrector" else faces.before
    assert (begun.game.edit(faces) - shown).abs().max() < 1e-5


def test_a_correction_of_nothing_leaves_the_plan_as_it_is(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    same = corrected(asked, np.zeros((2, 16, 16), np.float32), np.zeros((SIDE, SIDE), np.float32))
    np.testing.assert_allclose(same.target, asked.target, atol=1e-12)
    before, after = (render(photo.rgb, one, None, 1.0)[0].astype(int) for one in (asked, same))
    assert np.abs(before - after).max() <= 1


def test_a_request_for_no_change_asks_no_network(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    still = replace(asked, change=np.zeros(len(ACTIVE)))
    assert OnnxCorrector(network=None)(photo.rgb, still, None, 0.0) is still


# Training


@pytest.mark.parametrize("kind", ["corrector", "skip", "stargan"])
def test_gradient_reaches_every_parameter(tree: dict[str, Any], kind: str) -> None:
    begun = trained(tree, method={"name": "editor", "kind": kind})
    begun.advance()  # heads that start at zero let gradient through after one step
    before = {
        f"{player} {name}": value.detach().clone()
        for player, module in begun.players.items()
        for name, value in module.named_parameters()
    }
    begun.step = 1
    begun.advance()
    still = [
        f"{player} {name}"
        for player, module in begun.players.items()
        for name, value in module.named_parameters()
        if torch.equal(value, before[f"{player} {name}"])
    ]
    # As long as both hinges hold everywhere, as many real faces push the critic's offset up as edits push it down.
    assert set(still) <= {"critic patch.bias"}


def test_the_guide_stays_as_it_is(tree: dict[str, Any]) -> None:
    begun = trained(tree)
    assert isinstance(begun.game, Guided)
    before = {name: value.clone() for name, value in begun.game.guides[0].state_dict().items()}
    begun.advance()
    after = begun.game.guides[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("kind", ["corrector", "skip"])
def test_learning_brings_edits_nearer_to_what_was_asked(
    tree: dict[str, Any], kind: str, overfit: Overfit
) -> None:
    assert learnt(trained(tree, method={"name": "editor", "kind": kind}), "expression", overfit) < 0.97


def test_mirrored_rows_are_the_mirrored_face_unless_contempt_is_asked(tree: dict[str, Any]) -> None:
    begun = trained(tree)
    chosen = np.arange(len(begun.faces))
    as_is, turned = begun.rows(chosen), begun.rows(chosen, np.ones(len(chosen), bool))
    sided = as_is.change[:, ACTIVE.index("contempt")] != 0
    assert 0 < int(sided.sum()) < len(chosen)
    for name in ("before", "after"):
        plain, mirrored = getattr(as_is, name), getattr(turned, name)
        assert torch.equal(mirrored[~sided], plain[~sided].flip(-1))
        assert torch.equal(mirrored[sided], plain[sided])


def test_a_witness_tells_a_face_from_its_edits_and_from_others(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MobileFaceNet, "load_published", lambda self, path: None)  # random weights do here
    file = tmp_path / "faces.pt"
    with pytest.raises(ConfigError, match="mobilefacenet"):
        trained(tree, identity=str(file))
    file.write_bytes(b"weights")
    begun = trained(tree, identity=str(file))
    assert begun._witnessed()["witness"].startswith(hashlib.sha256(b"weights").hexdigest()[:12])
    assert isinstance(begun.game, Guided)
    witness = begun.game.witness
    assert witness is not None
    faces = begun.rows(np.arange(12)).before
    assert witness.apart(faces, faces).abs().max() < 1e-5
    lit = (faces * 0.9).requires_grad_()
    near, far = witness.apart(faces, lit), witness.apart(faces, faces.roll(1, 0))
    assert float(near.detach().mean()) < 0.7 * float(far.mean())
    near.sum().backward()
    assert lit.grad is not None
    assert torch.isfinite(lit.grad).all()
    assert lit.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert "editor identity" in begun.advance()
    before = {name: value.clone() for name, value in witness.network.state_dict().items()}
    begun.advance()
    assert all(torch.equal(value, before[name]) for name, value in witness.network.state_dict().items())


def test_the_generator_learns_to_draw_faces(tree: dict[str, Any], overfit: Overfit) -> None:
    assert learnt(trained(tree, method={"name": "editor", "kind": "stargan"}), "cycle", overfit) < 0.9


def learnt(begun: training.Training, term: str, overfit: Overfit) -> float:
    """What is left of one of the editor's terms, on the same faces and requests, once it has learnt that alone."""
    faces = begun.rows(np.arange(12))
    begun.game.begin(0)

    def loss() -> torch.Tensor:
        terms = begun.game.editor_terms(faces, begun.game.edit(faces), torch.Generator().manual_seed(0))
        return terms[term]

    before, lowest = overfit(loss, begun.game.editor.parameters(), steps=20, rate=2e-3)
    return lowest / before


def test_a_resumed_run_ends_as_an_undisturbed_one(tree: dict[str, Any]) -> None:
    whole = trained(tree, steps=4)
    whole.fit()
    out = str(Path(tree["out"]).with_name("halves"))
    first = trained(tree, steps=4, out=out)
    for step in range(2):
        first.step = step
        first.advance()
    first.step = 2
    first.save()
    second = trained(tree, steps=4, out=out)
    assert second.step == 2
    second.fit()
    for name, part in second._parts().items():
        expected = whole._parts()[name].state_dict()
        if name.startswith("optimiser"):
            continue
        for key, value in part.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)


def test_what_a_guide_should_read() -> None:
    """Half a smile is half neutral; half of what a face shows, taken away, leaves the other half."""
    votes = torch.zeros(2, len(EXPRESSIONS))
    votes[:, NEUTRAL] = 1
    votes[1] = torch.nn.functional.one_hot(torch.tensor(3), len(EXPRESSIONS)).float()
    happy = EXPRESSIONS.index("happiness")
    faces = training.Faces(
        torch.zeros(2, 1, 4, 4),
        torch.zeros(2, 1, 4, 4),
        torch.zeros(2, len(ACTIVE)),
        votes,
        torch.tensor([happy, NEUTRAL]),
        torch.tensor([0.5, 0.5]),
    )
    shares, intensity = wanted(faces)
    assert shares[0, happy] == shares[0, NEUTRAL] == 0.5
    assert shares[1, 3] == shares[1, NEUTRAL] == 0.5
    torch.testing.assert_close(intensity, torch.tensor([0.5, 0.5]))
    assert size_of(torch.tensor([[0.5, -0.2], [2.0, 0.0]])).tolist() == pytest.approx([0.7, 1.0])


def test_disturbing_keeps_a_face_in_the_picture() -> None:
    faces = np.stack([f.pixels[..., 0] for f in drawn_faces(6, size=SIDE, colour=False)])
    pictures = torch.from_numpy(faces).float()[:, None] / 255
    seen = disturbed(pictures, torch.Generator().manual_seed(0))
    assert seen.shape == pictures.shape
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (seen - pictures).abs().mean(dim=(1, 2, 3)).max() < 0.25


# From the network to the photo


def test_a_correction_draws_on_the_photo_what_training_saw(plan: tuple[Photo, Plan]) -> None:
    """The window of the corrected edit is the corrected window of the edit."""
    photo, asked = plan
    columns, rows = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16))
    flow = np.stack([1.5 * np.exp(-4 * rows**2), -1.2 * np.exp(-4 * columns**2)]).astype(np.float32)
    gain = (0.3 * np.sin(np.linspace(0, 6, SIDE)))[None, :].repeat(SIDE, axis=0).astype(np.float32)
    shading = Shading.load()
    _, after = views(photo.rgb, asked, shading, 1.0)
    change = Change(torch.from_numpy(flow)[None], torch.from_numpy(gain)[None, None])
    expected = drawn(torch.from_numpy(after).float()[None, None] / 255, change, torch.ones(1))[0, 0].numpy()
    done = corrected(asked, flow, gain)
    assert np.abs(done.target - asked.target).max() > 0.02
    _, seen = views(photo.rgb, done, shading, 1.0)
    error = np.abs(seen / 255 - expected)
    moved = np.abs(after / 255 - expected)
    assert error.mean() < 0.35 * moved.mean()
    assert error.mean() < 0.015


@pytest.mark.parametrize("seed", range(4))
def test_no_correction_folds(plan: tuple[Photo, Plan], seed: int) -> None:
    _, asked = plan
    wild = np.random.default_rng(seed).uniform(-12, 12, (2, 16, 16)).astype(np.float32)
    done = corrected(asked, wild, np.zeros((SIDE, SIDE), np.float32))
    assert done.warp.folding >= FOLD_LIMIT


def test_the_views_are_the_face(plan: tuple[Photo, Plan]) -> None:
    """The eyes lie where `mien.faces.align` puts them, and the window before is the photo's."""
    from mien.faces import align
    from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

    photo, asked = plan
    before, _ = views(photo.rgb, asked, None, 1.0)
    matrix = editors.window_matrix(asked.frame)
    points = asked.frame.to_picture(asked.source)
    eyes = [points[list(corners)].mean(axis=0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS)]
    np.testing.assert_allclose(align.apply(matrix, eyes), align.TEMPLATE[:2], atol=0.02)
    direct = align.crop(photo.rgb, matrix, SIDE, grey=True)
    assert np.abs(before.astype(int) - direct).mean() < 4


class Alternating:
    """A network whose light is now one, now the other."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        self.calls += 1
        sign = 1 if self.calls % 2 else -1
        flow = np.zeros((1, 2, 16, 16), np.float32)
        return [flow, np.full((1, 1, SIDE, SIDE), 0.2 * sign, np.float32)]


def test_light_is_deeper_on_dark_skin(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    strengths = []
    for brightness in (1.0, 0.5, 0.2):
        dim = (photo.rgb * brightness).astype(np.uint8)
        flow, gain = OnnxCorrector(Alternating()).answer(dim, asked, None, 1.0)
        assert not flow.any()
        strengths.append(abs(float(gain[0, 0])) / 0.2)
    assert 1 <= strengths[0] < 1.2
    assert strengths[0] < strengths[1] < 2.001
    assert strengths[2] == pytest.approx(2)


def test_a_film_holds_what_the_corrector_says_of_a_shot(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    held = TemporalCorrector(OnnxCorrector(Alternating()), frames=8)

    def light(shot: int) -> float:
        drawn = held(shot, photo.rgb, asked, None, 1.0)
        assert drawn.gain is not None
        return float(drawn.gain.ravel()[np.abs(drawn.gain).argmax()])

    first = [light(0) for _ in range(20)]
    alone = [float(OnnxCorrector(Alternating())(photo.rgb, asked, None, 1.0).gain.max())]  # type: ignore[union-attr]
    assert first[0] == pytest.approx(alone[0])
    assert abs(first[1]) < 1e-6  # the mean of the two so far
    assert np.abs(np.diff(first[10:])).max() < 0.3 * abs(alone[0])
    assert abs(light(1)) == pytest.approx(alone[0])  # another shot begins anew
    still = replace(asked, change=np.zeros_like(asked.change))
    assert held(1, photo.rgb, still, None, 1.0) is still


# The command


@pytest.mark.parametrize("kind", ["corrector", "skip", "stargan"])
def test_one_command_trains_exports_and_draws(
    tree: dict[str, Any], tmp_path: Path, plan: tuple[Photo, Plan], kind: str
) -> None:
    file = tmp_path / "editor.yaml"
    file.write_text(yaml.safe_dump({**tree, "method": {"name": "editor", "kind": kind}}))
    done = CliRunner().invoke(app, ["train", str(file)])
    assert done.exit_code == 0, done.output
    weights = Path(tree["out"]) / "editor.onnx"
    _, card = cards.verified(weights)
    assert card.fields["recipe"]["steps"] == 2
    assert card.fields["kind"] == kind
    assert card.fields["amount"] == 0.7
    again = CliRunner().invoke(app, ["train", str(file)])
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    photo, asked = plan
    shares = np.eye(len(EXPRESSIONS))[NEUTRAL]
    face = edit_pairs.located(photo.rgb, asked.frame.to_picture(asked.source), shares)
    if kind == "corrector":
        better = OnnxCorrector.load(weights)(photo.rgb, asked, None, 1.0)
        assert better.warp.folding >= FOLD_LIMIT
        assert better.gain is not None
        return
    generator = editors.Generator.load(weights)
    still, folding = generator(photo, face, "neutral", 1.0, None)
    assert folding == 1.0
    np.testing.assert_array_equal(still, photo.rgb)
    rgb, _ = generator(photo, face, "happiness", 1.0, None)
    changed = (rgb != photo.rgb).any(axis=2)
    assert changed.any() or kind == "skip"  # after two steps it still adds less than one level of grey
    outside = cv2.dilate(changed.astype(np.uint8), np.ones((3, 3))) == 0
    assert outside.any()


def test_onnx_answers_as_torch_does(tree: dict[str, Any]) -> None:
    from mien.io.onnx import session

    begun = trained(tree)
    for step in range(3):
        begun.step = step
        begun.advance()
    path = Path(tree["out"]) / "editor.onnx"
    begun.export(path)
    faces = begun.rows(np.arange(5))
    pictures = torch.cat([faces.before, faces.after], dim=1)
    with torch.inference_mode():
        flow, gain = begun.game.editor(pictures, faces.change)
    assert gain.abs().max() > 1e-4
    found = session(path.read_bytes(), 1).run(
        ["flow", "gain"], {"pictures": pictures.numpy(), "change": faces.change.numpy()}
    )
    np.testing.assert_allclose(found[0], flow.numpy(), atol=2e-4)
    np.testing.assert_allclose(found[1], gain.numpy(), atol=2e-4)


def test_a_bank_is_made_once(tree: dict[str, Any]) -> None:
    first = trained(tree).faces
    files = sorted(Path(tree["bank"]).rglob("*.npz"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = trained(tree).faces
    assert [file.stat().st_mtime_ns for file in files] == stamps
    np.testing.assert_array_equal(first.after, again.after)
    assert len(first) == 40
    assert (first.votes.argmax(axis=1) == NEUTRAL).sum() <= 20
    assert (first.votes.argmax(axis=1) != first.target).all()


def test_a_bank_of_exchanged_pictures_is_made_anew(
    ferplus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.data.readers import READERS

    monkeypatch.setattr(edit_pairs, "_part", lambda *_: {"made": np.zeros(1)})
    monkeypatch.setattr(edit_pairs, "Bank", dict)
    monkeypatch.setattr(edit_pairs, "fields", lambda kind: ())
    points = training.read_points(ferplus[1])
    record = next(r for r in READERS["ferplus"](ferplus[0]) if r.split == "train")
    path = tmp_path / record.path.name
    for level, banks in ((10, 1), (200, 2), (200, 2)):
        images.write(path, np.full((48, 48, 3), level, np.uint8))
        edit_pairs.build(tmp_path / "bank", [replace(record, path=path)], points, 2, 0, lambda line: None)
        assert len(list((tmp_path / "bank").iterdir())) == banks


def test_wrong_requests_are_refused_at_the_door(
    tree: dict[str, Any], guide: Path, tmp_path: Path, plan: tuple[Photo, Plan]
) -> None:
    with pytest.raises(ConfigError, match="guide"):
        training.configured({**tree, "guides": []}, "test")
    with pytest.raises(ConfigError, match="kind"):
        training.configured({**tree, "method": {"name": "editor", "kind": "gan"}}, "test")
    other = tmp_path / "wide.safetensors"
    options = {"name": "meca", "backbone": "compact", "attention": False, "code": 8}
    checkpoint.save(other, checkpoint.load(guide).restore(), {"method": options, "size": 80})
    with pytest.raises(ConfigError, match="64 px"):
        training.guide_of(other)
    begun = trained(tree)
    begun.save()
    assert torch_files.read(Path(tree["out"]) / "state.pt")["step"] == 0
    config = begun.config
    with pytest.raises(ConfigError, match="--resume"):
        training.run(config, resume=False, say=lambda line: None)
    (config.out / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="another configuration"):
        training.run(config, resume=True, say=lambda line: None)
    with pytest.raises(WeightsError, match="no such card"):
        editors.variants(Editor(None, Geometry.load(), measure=False), [str(tmp_path / "x.onnx")])  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_the_run(tree: dict[str, Any]) -> None:
    begun = trained(tree)
    with torch.no_grad():
        next(iter(begun.players["critic"].parameters())).fill_(torch.nan)
    with pytest.raises(TrainingError, match="resume"):
        begun.advance()
