"""Comparisons of made runs whose true difference is known, the tables, and the ledger's data."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.predictions import Predictions, RunInfo
from mien.evaluation import compare, evaluate, intervals, metrics, published_results
from mien.evaluation.compare import ComparisonError
from mien.evaluation.intervals import Interval
from mien.labels import EXPRESSIONS
from mien.methods import METHODS
from mien.reports import comparison_report

COUNT = 600


def run(method: str, seed: int, accuracy: float, *, same: bool = True, **changes) -> Predictions:
    """A run that is right on a random share of the images; hard images are the same for all when `same`."""
    truth = np.arange(COUNT) % 8
    luck = np.random.default_rng([seed, len(method)]).random(COUNT)
    hard = np.random.default_rng(99).random(COUNT) if same else luck
    right = 0.7 * hard + 0.3 * luck < np.quantile(0.7 * hard + 0.3 * luck, accuracy)
    best = np.where(right, truth, (truth + 1) % 8)
    affect = np.random.default_rng(5).uniform(-1, 1, (COUNT, 2))
    facts = {
        "method": method,
        "weights_hash": hashlib.sha256(f"{method}{seed}".encode()).hexdigest(),
        "group": method,
        "seed": seed,
        "dataset": "ferplus",
        "split": "test",
        "protocol": "ferplus-majority",
        "protocol_version": "1",
        "digest": "d" * 64,
        "parameters": 1_000_000,
        "bytes": 4_000_000,
        "images_per_second": 500.0,
    }
    return Predictions(
        tuple(f"i{i}" for i in range(COUNT)),
        truth,
        0.04 * np.ones((COUNT, 8)) + 0.68 * np.eye(8)[best],
        affect=affect * accuracy,
        affect_truth=affect,
        provenance=RunInfo(f"{method}-s{seed}", **(facts | changes)),
    )


def test_seeds_of_one_setting_are_one_row() -> None:
    found = compare.compare([run("base", 0, 0.8), run("new", 0, 0.85), run("base", 1, 0.82)], draws=50)
    assert [(row.name, row.seeds) for row in found.rows] == [("base", (0, 1)), ("new", (0,))]
    base = found.rows[0].figures["accuracy"]
    assert base.each == (pytest.approx(0.8, abs=2e-3), pytest.approx(0.82, abs=2e-3))
    assert base.mean.value == pytest.approx(np.mean(base.each))
    assert base.seed_sd == pytest.approx(np.std(base.each, ddof=1))
    assert math.isnan(found.rows[1].figures["accuracy"].seed_sd)
    assert any("One seed only: new" in note for note in found.notes)


def test_the_mean_answer_of_independent_runs_is_better_than_each() -> None:
    runs = [run("base", seed, 0.7, same=False) for seed in range(3)]
    shuffled = runs[1].rows(np.random.default_rng(0).permutation(COUNT))
    together = compare.average([runs[0], shuffled, runs[2]])
    np.testing.assert_allclose(together.probabilities, np.mean([one.probabilities for one in runs], axis=0))
    assert together.names == runs[0].names
    source = together.provenance
    assert (source.model, source.seed, source.parameters) == ("mean of 3 runs", None, 3_000_000)
    assert source.images_per_second == pytest.approx(500 / 3)
    found = compare.compare([*runs, together], draws=50)
    assert [row.name for row in found.rows] == ["base", "mean of 3 runs"]
    assert found.pairs[0].differences["accuracy"].low > 0
    with pytest.raises(ComparisonError, match="cannot be averaged"):
        compare.average(runs[:1])


def test_a_run_does_not_differ_from_its_twin() -> None:
    twin = run("new", 0, 0.8)
    base = run("base", 0, 0.8)
    twin = Predictions(
        **{name: getattr(base, name) for name in base.__slots__} | {"provenance": twin.provenance}
    )
    pair = compare.compare([base, twin], draws=50).pairs[0]
    assert pair.differences["accuracy"] == Interval(0, 0, 0)
    assert pair.tests[0] == metrics.McNemar(0, 0, 1.0, 1.0)


def test_differences_are_paired_over_images() -> None:
    """On the same hard images the interval of a difference is much narrower than unpaired images would allow."""
    pair = compare.compare([run("base", 0, 0.80), run("new", 0, 0.84)], draws=1000).pairs[0]
    found = pair.differences["accuracy"]
    assert found.value == pytest.approx(0.04, abs=3e-3)
    unpaired = 2 * 1.96 * math.sqrt((0.8 * 0.2 + 0.84 * 0.16) / COUNT)
    assert found.high - found.low < 0.8 * unpaired
    one, two = (
        r.probabilities.argmax(axis=1) == r.truth for r in (run("new", 0, 0.84), run("base", 0, 0.80))
    )
    spread = 2 * 1.96 * np.std(one.astype(float) - two) / math.sqrt(COUNT)
    assert found.high - found.low == pytest.approx(spread, rel=0.1)


def test_seeds_widen_the_interval() -> None:
    steady = [run("base", seed, 0.8) for seed in range(3)]
    shaky = [run("new", seed, share) for seed, share in enumerate((0.7, 0.8, 0.9))]
    calm = [run("new", seed, 0.8) for seed in range(3)]
    wide, narrow = (
        compare.compare([*steady, *other], draws=600).pairs[0].differences["accuracy"]
        for other in (shaky, calm)
    )
    assert wide.value == pytest.approx(narrow.value, abs=2e-3)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert wide.low < 0 < wide.high


def test_the_tables_show_corrected_intervals_and_what_could_be_seen(comparison) -> None:
    pair = comparison.pairs[0]
    found = pair.corrected["accuracy"]
    assert found.low <= pair.differences["accuracy"].low + 1e-3
    for text in (comparison_report.markdown(comparison), comparison_report.html(comparison)):
        assert "accuracy %, corrected" in text
        assert f"{100 * pair.visible['accuracy']:.1f}" in text
        assert f"{100 * found.low:+.1f}".replace("-", "") in text.replace("−", "")
        assert "seen from" in text
        assert "p (Holm)" in text
    assert pair.p["accuracy"] <= min(1.0, 2 * max(other.p["accuracy"] for other in comparison.pairs))
    stored = json.loads(comparison.to_json())["pairs"][0]
    assert stored["visible"]["accuracy"] == pair.visible["accuracy"]


def test_draws_of_one_seed_equal_a_slow_loop() -> None:
    member = run("base", 0, 0.7)
    found = compare._sampled([member], "keep", 40, 3)["accuracy"]
    counts = np.concatenate(list(intervals.Resampling(40, 3).blocks(COUNT)))
    right = member.probabilities.argmax(axis=1) == member.truth
    np.testing.assert_allclose(found.draws(3), counts @ right / COUNT)
    np.testing.assert_allclose(found.values, [right.mean()])


def test_classes_apart_are_recalls_and_the_rare_ones_their_mean() -> None:
    """Two methods that differ only on two rare classes."""
    truth = np.repeat(np.arange(8), [200, 200, 60, 60, 60, 24, 22, 10])
    runs = []
    for name, share in (("base", 0.2), ("new", 0.7)):
        for seed in range(3):
            luck = np.random.default_rng(seed).random(len(truth))
            right = luck < np.where((truth == 5) | (truth == 6), share, 0.8)
            best = np.where(right, truth, (truth + 1) % 8)
            provenance = RunInfo(f"{name}-s{seed}", weights_hash=f"{name}{seed}", group=name, seed=seed)
            names = tuple(map(str, range(len(truth))))
            runs.append(Predictions(names, truth, 0.04 + 0.68 * np.eye(8)[best], provenance=provenance))
    found = compare.compare(runs, draws=400)
    rows = {(row.name, row.label): row for row in found.classes}
    assert {label for _, label in rows} == {*EXPRESSIONS[:7], compare.RARE}, "contempt has ten images"
    base, new = rows["base", compare.RARE], rows["new", compare.RARE]
    assert (base.difference, base.corrected, new.images) == (None, None, 46)
    each = [
        [(run.probabilities.argmax(axis=1) == truth)[truth == place].mean() for place in (5, 6)]
        for run in runs[3:]
    ]
    assert new.recall.each == pytest.approx(np.mean(each, axis=1))
    assert new.difference is not None
    assert new.difference.low > 0.2
    assert new.p < 0.05
    same = rows["new", "happiness"]
    assert (same.difference, same.corrected, same.p) == (Interval(0, 0, 0), Interval(0, 0, 0), 1.0)
    single = rows["new", EXPRESSIONS[5]]
    assert single.difference is not None
    assert single.corrected is not None
    assert single.corrected.low < single.difference.low
    text = comparison_report.markdown(found)
    assert "## By class" in text
    assert f"| rare | 46 | new | {100 * new.recall.mean.value:.1f} ±" in text
    assert json.loads(found.to_json())["classes"][0]["difference"] is None


def test_missed_faces_are_errors_for_labels_and_left_out_of_affect_as_in_evaluate() -> None:
    found = np.arange(COUNT) % 10 > 0
    runs = []
    for name in ("base", "new"):
        one = run(name, 0, 0.8)
        guess = np.where(found[:, None], one.affect_truth, 0.0)
        runs.append(replace(one, found=found, affect=guess))
    judged = [evaluate.report(one, undetected="error", draws=20) for one in runs]
    for row, alone in zip(compare.compare(runs, undetected="error", draws=20).rows, judged, strict=True):
        for key, score in (
            ("accuracy", alone.scores["accuracy"]),
            ("ccc_valence", alone.affect["valence"]["ccc"]),
        ):
            assert row.figures[key].mean.value == pytest.approx(score.value)
    other = replace(runs[1], found=np.roll(found, 1))
    notes = compare.compare([runs[0], other], undetected="error", draws=20).notes
    assert any("those that all found" in note for note in notes)


def test_order_of_images_in_the_files_does_not_matter() -> None:
    base, new = run("base", 0, 0.8), run("new", 0, 0.85)
    turned = new.rows(np.random.default_rng(0).permutation(COUNT))
    one, other = (compare.compare([base, second], draws=50).to_dict()["pairs"] for second in (new, turned))
    assert one == other


def test_affect_is_compared_by_ccc() -> None:
    found = compare.compare([run("base", 0, 0.5), run("new", 0, 0.9)], draws=30)
    assert found.pairs[0].differences["ccc_valence"].value > 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": "e" * 64}, "differ in digest"),
        ({"protocol": "ferplus-argmax8"}, "differ in protocol"),
        ({"split": "valid"}, "differ in split"),
    ],
)
def test_runs_on_other_images_are_refused(changes, words) -> None:
    with pytest.raises(ComparisonError, match=words):
        compare.compare([run("base", 0, 0.8), run("new", 0, 0.8, **changes)])


def test_what_else_cannot_be_compared() -> None:
    base = run("base", 0, 0.8)
    with pytest.raises(ComparisonError, match="two or more"):
        compare.compare([base])
    with pytest.raises(ComparisonError, match="different images"):
        compare.compare([base, run("new", 0, 0.8).rows(np.arange(10))])
    with pytest.raises(ComparisonError, match="are given twice"):
        compare.compare([base, base])
    with pytest.raises(ComparisonError, match="no method 'nwe'"):
        compare.compare([base, run("new", 0, 0.8)], reference="nwe")
    with pytest.raises(ComparisonError, match="keep or error"):
        compare.compare([base, run("new", 0, 0.8)], undetected="drop")


def test_settings_of_one_name_stay_apart() -> None:
    found = compare.compare(
        [run("base", 0, 0.8), run("base", 1, 0.9, group="base with another rate")], draws=20
    )
    assert [row.name for row in found.rows] == ["base", "base (2)"]


@pytest.fixture(scope="module")
def comparison() -> compare.Comparison:
    """The baseline, a method with published numbers and one without, two seeds each."""
    shares = (("baseline", 0.80), ("cclls", 0.84), ("jadfer", 0.81))
    return compare.compare([run(m, s, a + 0.01 * s) for m, a in shares for s in (0, 1)], draws=60)


def test_published_numbers_stand_in_their_own_marked_column(comparison) -> None:
    heading, rows = comparison_report.cells(comparison)
    assert heading[-1] == "published (not comparable)"
    named = {row[0]: row for row in rows}
    assert named["cclls"][-1].startswith("89.50 (")
    assert "best epoch on the test set" in named["cclls"][-1]
    assert named["jadfer"][-1] == "none read"
    assert "89.50" not in " ".join(named["cclls"][:-1])
    assert named["cclls"][heading.index("parameters")] == "1.00 M"
    assert named["cclls"][heading.index("images/s")] == "500"


def test_all_three_tables_hold_the_same_figures(comparison) -> None:
    mean = f"{100 * comparison.rows[1].figures['accuracy'].mean.value:.1f}"
    gap = f"{100 * comparison.pairs[0].differences['accuracy'].value:+.1f}"
    for text in (
        comparison_report.markdown(comparison),
        comparison_report.latex(comparison),
        comparison_report.html(comparison),
    ):
        assert mean in text
        assert gap in text
        assert "not comparable" in text


def test_latex_is_balanced_and_escaped(comparison) -> None:
    text = comparison_report.latex(comparison)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in lines}
    assert columns == {len(comparison_report.cells(comparison)[0]) - 1}
    assert not re.search(r"(?<!\\)[%_#]", text.replace(r"\begin{table}", ""))
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_the_page_stands_alone(comparison) -> None:
    text = comparison_report.html(comparison)
    assert not [
        link for link in re.findall(r'(?:src|href)="([^"#][^"]*)"', text) if not link.startswith("data:")
    ]
    assert text.count('role="img"') == 2
    assert 'class="text apart"' in text


def test_the_ledger_sets_ours_beside_the_paper(comparison) -> None:
    lines = published_results.lines(comparison_report.ours(comparison))
    cclls = {
        line.dataset: line for line in lines if line.method.startswith("cclls") and line.metric == "accuracy"
    }
    assert cclls["ferplus"].paper == "89.50"
    assert cclls["ferplus"].ours.startswith(
        f"{100 * comparison.rows[1].figures['accuracy'].mean.value:.1f} ("
    )
    assert cclls["rafdb"].ours == "not run"
    assert cclls["ferplus"].why
    meca = next(line for line in lines if line.method == "meca")
    assert (meca.paper, meca.ours, meca.rests_on) == ("–", "not run", "no number could be read")


def test_the_ledger_knows_every_method_and_names_its_sources() -> None:
    known = {paper.method for paper in published_results.papers() if paper.kind == "seed"}
    assert set(METHODS) <= known, "a method without a ledger file"
    for paper in published_results.papers():
        assert paper.why
        for entry in paper.entries:
            assert entry.source, f"{paper.method}: a number without its source"
            assert (entry.code is None) == (not entry.code_source), f"{paper.method}: {entry.dataset}"
            assert entry.paper is None or (0 < entry.paper <= (100 if entry.metric == "accuracy" else 1))


def test_the_command_reads_run_folders_and_writes_all_forms(tmp_path) -> None:
    paths = []
    for method, share in (("baseline", 0.8), ("ke2nt", 0.83)):
        folder = tmp_path / f"{method}-s0" / "evaluation"
        run(method, 0, share).save(folder / "predictions.parquet")
        paths.append(str(folder.parent))
    done = CliRunner().invoke(
        app, ["compare", *paths, "--draws", "20", "--out", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    assert [row["name"] for row in tree["rows"]] == ["baseline", "ke2nt"]
    assert tree["pairs"][0]["largest_p"] is not None
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".md", ".tex", ".json"}
    tex = CliRunner().invoke(app, ["compare", *paths, "--draws", "20", "--format", "tex"])
    assert tex.stdout.startswith(r"\begin{table}")
    wrong = CliRunner().invoke(app, ["compare", str(tmp_path), *paths])
    assert isinstance(wrong.exception, ComparisonError)
    plain, marked = (
        CliRunner().invoke(app, ["compare", *paths, "--draws", "20", *more])
        for more in ((), ("--format", "md"))
    )
    assert marked.stdout == (tmp_path / "out" / "comparison.md").read_text() + "\n"
    assert max(map(len, plain.stdout.splitlines())) <= 80
    assert "  accuracy %" in plain.stdout
    ledger = CliRunner().invoke(app, ["compare", "--ledger", "--format", "md"])
    assert "| cclls, ResNet-18 | ferplus" in ledger.stdout


def test_class_words_are_ours() -> None:
    assert run("base", 0, 0.8).classes == EXPRESSIONS


def parted(method: str, seed: int, seen: float, unseen: float) -> Predictions:
    """A run with one accuracy on images of seen persons and another on those of unseen ones."""
    good, poor = run(method, seed, seen), run(method, seed, unseen)
    person = np.where(np.arange(COUNT) < COUNT // 2, "seen", "unseen").astype(object)
    first = (person == "seen")[:, None]
    return Predictions(
        good.names,
        good.truth,
        np.where(first, good.probabilities, poor.probabilities),
        affect=np.where(first, good.affect, poor.affect),
        affect_truth=good.affect_truth,
        attributes={"person": person},
        provenance=good.provenance,
    )


def test_groups_and_their_gap_are_those_of_the_images_apart() -> None:
    runs = [parted("base", 0, 0.9, 0.6), parted("base", 1, 0.9, 0.6), parted("new", 0, 0.8, 0.75)]
    found = compare.compare(runs, draws=200, by="person")
    assert [(part.group, part.name, part.images) for part in found.groups] == [
        ("seen", "base", 300), ("seen", "new", 300), ("unseen", "base", 300), ("unseen", "new", 300),
    ]  # fmt: skip
    table = {(part.name, part.group): part for part in found.groups}
    half = runs[2].rows(np.arange(300, 600))
    right = float((half.probabilities.argmax(axis=1) == half.truth).mean())
    assert table["new", "unseen"].figures["accuracy"].mean.value == pytest.approx(right)
    gain = table["new", "unseen"].differences["ccc_valence"]
    assert gain.low > 0, "the new method is better on unseen persons"
    base, new = found.gaps
    assert (base.name, base.groups, base.changes) == ("base", ("seen", "unseen"), {})
    seen, unseen = (table["base", group].figures["accuracy"].mean.value for group in ("seen", "unseen"))
    assert base.figures["accuracy"].value == pytest.approx(seen - unseen)
    assert base.figures["accuracy"].low > 0
    assert new.changes["accuracy"].value == pytest.approx(
        new.figures["accuracy"].value - base.figures["accuracy"].value
    )
    assert new.changes["accuracy"].high < 0, "its gap is smaller"
    for text in (comparison_report.markdown(found), comparison_report.html(found)):
        assert "Gap between seen and unseen" in text
        assert "change of CCC valence" in text
    assert json.loads(found.to_json())["by"] == "person"


def test_three_groups_have_no_gap_and_small_ones_are_left_out() -> None:
    base = run("base", 0, 0.8)
    ages = np.array(["0-3"] * 10 + ["4-19"] * 290 + ["20-39"] * 150 + ["70+"] * 150, dtype=object)
    runs = [
        Predictions(**{name: getattr(one, name) for name in one.__slots__} | {"attributes": {"age": ages}})
        for one in (base, run("new", 0, 0.9))
    ]
    found = compare.compare(runs, draws=20, by="age")
    assert {part.group for part in found.groups} == {"4-19", "20-39", "70+"}
    assert found.gaps == ()
    with pytest.raises(ComparisonError, match="evaluate it again with --by person"):
        compare.compare(runs, draws=20, by="person")


def test_seeds_of_one_method_alone_make_a_table_without_differences() -> None:
    found = compare.compare([run("base", seed, 0.8) for seed in range(3)], draws=50)
    assert found.pairs == ()
    for text in (
        comparison_report.markdown(found),
        comparison_report.html(found),
        comparison_report.latex(found),
    ):
        assert "reference" not in text.split("Paper, authors")[0]
        assert "Differences" not in text
    assert comparison_report.markdown(found).startswith("# base, 3 seeds on ferplus")
    assert not any("McNemar" in note for note in found.notes)
    heading, rows = comparison_report.cells(found)
    assert len(rows) == 1
    assert len(rows[0]) == len(heading)
