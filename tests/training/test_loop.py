"""The loop: it learns, it repeats itself exactly, and nothing that interrupts it loses more than a step."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data import cropping
from mien.errors import ConfigError, MienError, OutputExists, TrainingError
from mien.evaluation.validation import validate
from mien.io import torch_files
from mien.training import checkpoint, loop, run_log
from mien.training.config import RunConfig
from mien.training.task import Budget

from .drawn import STEPS_PER_EPOCH, events, trained, tree
from .small import Doubling, Line, LineTask, begun


def test_learns_and_leaves_a_complete_run_folder(undisturbed: Path, faces: Path) -> None:
    lines = events(undisturbed)
    assert [line["step"] for line in lines] == [STEPS_PER_EPOCH * epoch for epoch in (1, 2, 3, 4)]
    stored = checkpoint.load(undisturbed / "weights.safetensors")
    best = max(lines, key=lambda line: line["accuracy"])
    assert stored.card["valid"]["accuracy"] == best["accuracy"]
    config = RunConfig(**stored.card["config"])
    samples = cropping.load_split(config.data, ("valid",))["valid"]
    again = validate(stored.restore(), samples, 16)  # type: ignore[arg-type]
    assert again["accuracy"] == pytest.approx(best["accuracy"])
    assert again["ccc_valence"] == pytest.approx(best["ccc_valence"], abs=1e-5)


def test_the_loop_fits_a_fixed_batch(faces: Path, tmp_path: Path) -> None:
    plain = tree(faces, tmp_path, epochs=12, name="fit", optim={"rate": 0.01, "ema": None})
    plain["method"]["dropout"] = 0.0
    plain["data"] |= {"limit": 16, "rotate": 0, "scale": 0, "shift": 0, "light": 0, "soften": 0}
    losses = [line["train_expression"] for line in events(trained(RunConfig(**plain)))]
    assert min(losses[1:]) < losses[0]


def test_same_seed_same_run_and_other_seed_another(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    again = trained(RunConfig(**tree(faces, tmp_path / "a", epochs=1)))
    other = trained(RunConfig(**tree(faces, tmp_path / "b", epochs=1, seed=1)))
    same = trained(RunConfig(**tree(faces, tmp_path / "c", epochs=1)))
    assert events(again) == events(same)
    assert events(again) != events(other)


def test_ctrl_c_saves_and_the_resumed_run_is_bit_for_bit_the_undisturbed_one(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    config = RunConfig(**tree(faces, tmp_path))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == STEPS_PER_EPOCH + 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(config, progress=interrupt)
    folder = loop.folder_of(config)
    assert not (folder / "finished").exists()
    trained(config, resume=True)
    assert events(folder) == events(undisturbed)
    first = checkpoint.load(folder / "weights.safetensors").tensors
    second = checkpoint.load(undisturbed / "weights.safetensors").tensors
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_killed_process_resumes_to_the_same_losses(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text(yaml.safe_dump(tree(faces, tmp_path / "runs")), encoding="utf-8")
    command = [sys.executable, "-m", "mien", "train", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "test-s0"
    deadline = time.monotonic() + 120
    while not (folder / "state.pt").exists():  # the first epoch has been saved
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        process.poll()
    process.kill()
    process.wait()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)
    assert events(folder) == events(undisturbed)


def test_nan_loss_is_one_clear_error_and_keeps_the_last_weights(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path))

    class Poison(Exception):
        pass

    trained(RunConfig(**tree(faces, tmp_path, epochs=1, name="before")))
    broken = RunConfig(**tree(faces, tmp_path, optim={"rate": 1e30, "clip": None, "ema": None}))
    with pytest.raises(TrainingError, match=r"lower optim\.rate"):
        trained(broken)
    assert (tmp_path / "before-s0" / "weights.safetensors").is_file()
    assert config.name == "test"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"select": "acuracy"}, "did you mean 'accuracy'"),
        ({"data": {"root": "nowhere"}}, "nowhere"),
        ({"data": {"protocol": "rafdb-basic"}}, "rafdb"),
        ({"method": {"name": "baselin"}}, "baseline"),
        ({"batch": 100_000}, "lower it"),
        ({"start": "nowhere.safetensors"}, "nowhere"),
    ],
)
def test_a_refused_start_leaves_nothing_in_the_way(
    faces: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    wrong = tree(faces, tmp_path)
    for key, value in change.items():
        wrong[key] = {**wrong[key], **value} if isinstance(value, dict) else value
    with pytest.raises(MienError, match=complaint):
        trained(RunConfig(**wrong))
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_leaves_not_even_the_folder_of_runs(faces: Path, tmp_path: Path) -> None:
    wrong = tree(faces, tmp_path / "a" / "runs", data={**tree(faces, tmp_path)["data"], "root": "nowhere"})
    with pytest.raises(MienError, match="nowhere"):
        trained(RunConfig(**wrong))
    hot = {"rate": 1e30, "clip": None, "ema": None}
    with pytest.raises(TrainingError, match="not finite"):
        trained(RunConfig(**tree(faces, tmp_path / "a" / "runs", optim=hot)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("last", [False, True])
def test_a_stop_at_the_end_of_an_epoch_loses_neither_its_validation_nor_its_losses(
    undisturbed: Path, faces: Path, tmp_path: Path, last: bool
) -> None:
    config = RunConfig(**tree(faces, tmp_path))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == STEPS_PER_EPOCH * (4 if last else 1):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(config, progress=interrupt)
    assert events(trained(config, resume=True)) == events(undisturbed)


@pytest.mark.parametrize("processes", [2])
def test_two_processes_give_the_single_process_result(faces: Path, tmp_path: Path, processes: int) -> None:
    settings = tmp_path / "config.yaml"
    changes = {
        "epochs": 2,
        "method": {"name": "baseline", "backbone": "tiny", "dropout": 0.0, "affect_weight": 0.0},
    }
    single = trained(RunConfig(**tree(faces, tmp_path / "single", **changes)))
    settings.write_text(yaml.safe_dump(tree(faces, tmp_path / "double", **changes)), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={processes}",
            "--master-port=29611",
            *("-m", "mien", "train", str(settings)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    double = tmp_path / "double" / "test-s0"
    for one, two in zip(events(single), events(double), strict=True):
        assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=2e-3)
    card = json.loads((double / "environment.json").read_text())
    assert card["packages"]["torch"] == torch.__version__.split("+")[0] or card["packages"]["torch"]


def test_runs_are_listed_and_drawn(undisturbed: Path, tmp_path: Path) -> None:
    shell = CliRunner()
    listed = shell.invoke(
        app, ["runs", str(undisturbed.parent), "--curves", str(tmp_path / "all.png"), "--json"]
    )
    assert listed.exit_code == 0, listed.output
    (row,) = (row for row in json.loads(listed.stdout) if row["run"] == undisturbed.name)
    best = max(events(undisturbed), key=lambda event: event["accuracy"])
    assert (row["epochs"], row["finished"], row["accuracy"]) == ("4/4", True, round(best["accuracy"], 4))
    assert {path.name for path in tmp_path.iterdir()} == {"all.png", "all.svg"}
    again = ["runs", str(undisturbed.parent), "--curves", str(tmp_path / "all.png")]
    assert isinstance(shell.invoke(app, again).exception, OutputExists)
    assert shell.invoke(app, [*again, "--overwrite"]).exit_code == 0
    shown = shell.invoke(app, ["runs", str(undisturbed.parent)])
    assert undisturbed.name in shown.stdout
    assert "no runs" in shell.invoke(app, ["runs", str(tmp_path)]).stdout


# The loop alone


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is treated as a device that one has to wait for."""
    monkeypatch.setattr(loop, "_reads_wait", lambda device: True)


@pytest.mark.usefixtures("slow_reads")
def test_losses_are_not_read_between_two_checks(tmp_path: Path) -> None:
    class Reads(TorchDispatchMode):
        """Counts what makes the host wait for the device."""

        count = 0

        def __torch_dispatch__(self, op: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            read = op is torch.ops.aten._local_scalar_dense.default
            self.count += read and arguments[0].is_floating_point()  # counters of steps lie on the CPU
            return op(*arguments, **(options or {}))

    task = LineTask(tmp_path / "run", steps=loop.CHECK_STEPS + 5, epoch_steps=1000)
    run, batches = begun(task), task.batches(0)
    with Reads() as reads:
        for _ in range(loop.CHECK_STEPS - 1):
            run.step(next(batches))
        assert reads.count == 0
        assert float(torch.ones(())) == 1
        assert reads.count == 1, "a read is seen"


@pytest.mark.usefixtures("slow_reads")
def test_a_loss_that_is_not_finite_is_found_within_fifty_steps_and_the_state_before_is_kept(
    tmp_path: Path,
) -> None:
    folder, length = tmp_path / "run", loop.CHECK_STEPS - 10
    with pytest.raises(TrainingError, match=rf"step {loop.CHECK_STEPS}: .*square nan.*lower the rate"):
        begun(LineTask(folder, 100, spoilt=length + 1, epoch_steps=length)).train()
    assert torch_files.read(folder / "state.pt")["position"]["step"] == length
    whole, rest = (LineTask(path, 100, epoch_steps=length) for path in (tmp_path / "whole", folder))
    begun(whole).train()
    again = begun(rest, resume=True)
    assert again.position.step == length
    again.train()
    assert torch.equal(rest.method.line.weight, whole.method.line.weight)


def test_on_the_cpu_a_loss_that_is_not_finite_is_found_before_its_step(tmp_path: Path) -> None:
    task = LineTask(tmp_path / "run", spoilt=3)
    run, batches = begun(task), task.batches(0)
    for _ in range(3):
        run.step(next(batches))
    before = {name: value.clone() for name, value in task.method.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 3: .*square nan"):
        run.step(next(batches))
    assert all(torch.equal(value, before[name]) for name, value in task.method.state_dict().items())


@pytest.mark.usefixtures("slow_reads")
def test_a_state_is_not_overwritten_by_one_of_a_loss_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STATE_SECONDS", -1.0)  # after every step
    with pytest.raises(TrainingError, match="step 4"):
        begun(LineTask(tmp_path / "run", spoilt=3)).train()
    stored = torch_files.read(tmp_path / "run" / "state.pt")
    assert stored["position"]["step"] == 3
    assert all(torch.isfinite(value).all() for value in stored["method"].values())


def test_pictures_and_the_average_are_where_the_method_is(tmp_path: Path) -> None:
    task = LineTask(tmp_path / "run")
    run = begun(task, fabric=Doubling())
    run.train()
    assert {batch.x.dtype for batch in task.prepared} == {torch.float64}
    assert run.average is not None
    assert {value.dtype for value in run.average.module.parameters()} == {torch.float64}
    assert all(isinstance(epoch.network, Line) for epoch in task.epochs)
    assert run.network is run.average.module


@pytest.mark.parametrize("stop", [1, 5, 7, 12])
def test_a_task_resumes_bit_for_bit_at_any_step(tmp_path: Path, stop: int) -> None:
    whole = LineTask(tmp_path / "whole")
    begun(whole).train()

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if values["step"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        begun(LineTask(tmp_path / "halves"), progress=interrupt).train()
    task = LineTask(tmp_path / "halves")
    again = begun(task, resume=True)
    assert (again.position.step, again.average is None) == (stop, False)
    again.train()
    assert events(task.folder) == events(whole.folder)
    assert [event["step"] for event in events(task.folder)] == [5, 10, 12]
    for name, value in whole.method.state_dict().items():
        assert torch.equal(task.method.state_dict()[name], value), name
    assert [*whole.method.told] == list(range(12)), "the method is told every step"


def test_time_ends_a_training_and_brings_its_schedule_to_the_end(tmp_path: Path) -> None:
    clock = itertools.count(step=6.0)
    task = LineTask(tmp_path / "run", budget=Budget(1000, 1.0, lambda: next(clock)))
    run = begun(task)
    seen: list[dict[str, Any]] = []
    run.progress = lambda kind, values: seen.append(values)
    run.train()
    assert run.position.step == 10
    assert [values["share"] for values in seen] == pytest.approx(np.linspace(0.1, 1.0, 10))
    assert run.optimisers["line"].param_groups[0]["lr"] == pytest.approx(0.05 * 0.1)
    further = LineTask(tmp_path / "run", budget=Budget(1000, 2.0, lambda: next(clock)))
    longer = begun(further, resume=True)
    longer.train()
    assert longer.position.step == 20


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    begun(LineTask(tmp_path / "run")).train()
    other = LineTask(tmp_path / "run")
    other.method.mean = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(TrainingError, match="is not this run's state"):
        begun(other, resume=True)


def test_validation_at_the_end_judges_once_and_keeps_the_last_epoch(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    judged: list[int] = []

    def counted(*given: Any) -> dict[str, float]:
        judged.append(1)
        return validate(*given)

    config = RunConfig(**tree(faces, tmp_path, validation="end"))
    folder = loop.run(config, counted)
    assert len(judged) == 1
    usual, once = events(undisturbed), events(folder)
    assert once[-1] == usual[-1], "the last epoch is judged as ever"
    assert ["accuracy" in event for event in once] == [False, False, False, True]
    assert checkpoint.load(folder / "weights.safetensors").card["epoch"] == 3
    assert run_log.runs(tmp_path)[0].row()["best epoch"] == 4


def test_a_run_trains_where_it_is_told_on_the_data_that_it_is_given(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device cuda:7"):
        trained(RunConfig(**tree(faces, tmp_path)), device="cuda:7")
    asked: list[Any] = []

    def load(*given: Any) -> Any:
        asked.append(given)
        return cropping.load_split(*given)

    trained(RunConfig(**tree(faces, tmp_path, epochs=1)), device="cpu", load=load)
    assert len(asked) == 1


def test_without_a_compiler_training_says_so_and_goes_on(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    inductor = pytest.importorskip("torch._inductor.config")
    notes: list[str] = []

    def heard(kind: str, values: dict[str, Any]) -> None:
        if kind == "note":
            notes.append(values["text"])

    torch.compiler.reset()
    with inductor.patch({"cpp.cxx": (None, "/nonexistent"), "force_disable_caches": True}):
        folder = trained(RunConfig(**tree(faces, tmp_path, compile=True)), progress=heard, device="cpu")
    assert len(notes) == 1
    assert notes[0].startswith("compile: this machine cannot")
    assert "set compile: false" in notes[0]
    assert events(folder) == events(undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_a_compiled_run_resumes_bit_for_bit(faces: Path, tmp_path: Path) -> None:
    def stop(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == STEPS_PER_EPOCH + 2:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trained(RunConfig(**tree(faces, tmp_path / "whole", compile=True, epochs=2)), device="cpu")
    config = RunConfig(**tree(faces, tmp_path / "parts", compile=True, epochs=2))
    with pytest.raises(KeyboardInterrupt):
        trained(config, device="cpu", progress=stop)
    folder = trained(config, device="cpu", resume=True)
    assert events(folder) == events(whole)
    first, second = (checkpoint.load(one / "last.safetensors").tensors for one in (folder, whole))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in second)
