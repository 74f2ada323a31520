"""The page, driven as a person would: with a mouse, with the keyboard alone, on a phone, in the dark."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mien.actions import GAZE, SIDES
from mien.labels import EXPRESSIONS
from mien.wording import signed

from .conftest import Served

pytestmark = pytest.mark.browser


def test_a_photo_is_read(visit: Any, models: dict[str, Any], examples: Path) -> None:
    page = (one := visit()).page
    one.read(examples / "group_1.jpg")
    expected = models["pipeline"](examples / "group_1.jpg")
    assert page.locator("#read-faces button").count() == len(expected.faces) == 6
    assert page.locator("rect.box").count() == 6
    for number in range(6):
        assert page.get_by_role("button", name=f"Face {number}", exact=True).count() == 1
    assert sorted(page.locator("svg.over .number").all_text_contents()) == [
        f"{number}" for number in range(6)
    ]
    assert page.locator("#read-title").inner_text() == expected.faces[0].expression
    rows = page.locator(".bars:not(.moves) tr").all_inner_texts()
    shown = {row.split("\t")[0]: row.split()[-2] for row in rows}
    assert {name: f"{round(share * 100)}" for name, share in expected.faces[0].probabilities.items()} == shown
    assert set(shown) == set(EXPRESSIONS)
    told = page.locator("#read-panel .dial").get_attribute("aria-label").replace("−", "-")
    first = expected.faces[0]
    assert told == f"Valence {signed(first.valence)}, arousal {signed(first.arousal)}"
    page.locator("#read-faces button").nth(3).click()
    assert page.locator("#read-title").inner_text() == expected.faces[3].expression
    page.locator("#read-points").click()
    assert page.locator(".point").count() == len(expected.faces[3].landmarks.points)
    assert "not what the person feels" in page.locator("#read-panel").inner_text()


def test_the_purpose_is_asked_once_and_work_is_warned_of(visit: Any, examples: Path) -> None:
    page = (one := visit()).page
    page.set_input_files("#file-one", str(examples / "astronaut.png"))
    assert page.locator("#purpose").is_visible()
    for purpose in ("work", "education"):
        page.locator(f"#purposes input[value={purpose}]").check()
        assert "Article 5(1)(f)" in page.locator("#purpose-warning").inner_text()
        assert page.locator("#purpose-go").is_disabled()
    page.locator("#purposes input[value=research]").check()
    assert not page.locator("#purpose-warning").is_visible()
    page.keyboard.press("Escape")
    assert not any("/v1/analyses" in url for url in one.asked)
    one.read(examples / "astronaut.png")
    assert "Purpose: trying out" in page.locator("#purpose-said").inner_text()
    page.locator("#read-new").click()
    one.read(examples / "astronaut.png", first=False)


def test_a_photo_brought_in_the_moment_the_question_is_closed_is_asked_about_and_read(
    visit: Any, examples: Path
) -> None:
    page = (one := visit()).page
    page.set_input_files("#file-one", str(examples / "astronaut.png"))
    assert page.locator("#purpose").is_visible()
    # In one task: the dialog's own word that it was closed comes after it is open again.
    page.evaluate(
        """async () => {
          const blob = await (await fetch("/examples/astronaut.jpg")).blob();
          const files = new DataTransfer();
          files.items.add(new File([blob], "astronaut.jpg", { type: "image/jpeg" }));
          document.getElementById("purpose").close("cancel");
          const input = document.getElementById("file-one");
          input.files = files.files;
          input.dispatchEvent(new Event("change"));
        }"""
    )
    one.state_purpose()
    page.wait_for_selector("#read-stage:not(.busy) svg.over", state="attached")
    assert sum("/v1/analyses" in url for url in one.asked) == 1, "the photo that was turned away stays away"


def test_what_goes_wrong_is_said_where_one_looks(visit: Any, tmp_path: Path) -> None:
    page = (one := visit()).page
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photograph")
    page.set_input_files("#file-one", str(tmp_path / "broken.jpg"))
    one.state_purpose()
    page.wait_for_selector("#read-problem:visible")
    assert "damaged" in page.locator("#read-problem").inner_text().lower()
    assert page.locator("#read-drop").is_visible()
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8\xff" + bytes(17 * 2**20))
    page.set_input_files("#file-one", str(tmp_path / "large.jpg"))
    page.locator("#read-problem", has_text="17.0 MB").wait_for()
    assert "16.0 MB" in page.locator("#read-problem").inner_text()
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#file-one", str(tmp_path / "notes.txt"))
    page.locator("#read-problem", has_text="not a picture").wait_for()
    one.complaints[:] = [
        text for text in one.complaints if "422" not in text
    ]  # the browser logs refused requests


def test_nobody_in_the_photo(visit: Any, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (400, 300), (90, 120, 110)).save(tmp_path / "wall.png")
    page = (one := visit()).page
    one.read(tmp_path / "wall.png")
    assert page.locator("#read-title").inner_text() == "No face found"
    assert page.locator("#status").inner_text() == "No face was found."
    page.get_by_role("button", name="Another photo").last.click()
    assert page.locator("#read-drop").is_visible()


def pixels(page: Any, number: int) -> list[int]:
    """The pixels of the editor's canvas: 0 before, 1 after."""
    return (
        page.locator("#edit-stage canvas")
        .nth(number)
        .evaluate("node => [...node.getContext('2d').getImageData(0, 0, node.width, node.height).data]")
    )


def far(one: list[int], other: list[int]) -> float:
    """The mean difference of two pictures' values."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def test_an_edit_is_made_compared_and_downloaded(visit: Any, examples: Path, tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    from PIL import Image

    from mien.editing.provenance import verify

    page = (one := visit()).page
    one.read(examples / "portrait_neutral.jpg")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled")
    page.locator("#edit-form input[value=surprise]").check(force=True)
    page.locator("#consent").check()
    page.wait_for_selector("#edit-stage:not(.busy)")
    before, after = page.locator("#edit-stage canvas").all()
    assert far(pixels(page, 0), pixels(page, 1)) > 0.3
    assert after.is_visible()
    assert after.evaluate("node => node.style.clipPath") == ""

    page.locator("#edit-hold").focus()
    for key in ("Space", "b"):
        page.keyboard.down(key)
        assert not after.is_visible()
        page.keyboard.up(key)
        assert after.is_visible()
    for held in (page.locator("#edit-hold"), before):
        box = held.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        assert not after.is_visible()
        page.mouse.up()
        assert after.is_visible()

    page.locator("#edit-compare").click()
    wipe = page.locator("#wipe")
    wipe.focus()
    page.keyboard.press("Home")
    assert "inset(0px 0px 0px 0%)" in after.evaluate("node => node.style.clipPath")
    page.keyboard.press("End")
    assert "0 percent after" in wipe.get_attribute("aria-valuetext")

    record = page.locator(".record").inner_text()
    assert "surprise, strength 80 %" in record
    assert "stated by you" in record
    with page.expect_download() as waiting:
        page.locator("#edit-save").click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert file.name == "portrait_neutral-edited.jpg"
    with Image.open(file) as edited, Image.open(examples / "portrait_neutral.jpg") as photo:
        assert edited.size == photo.size
    verdict = verify(file)
    assert (verdict.manifest, verdict.intact, verdict.edited) == (True, True, True)
    assert verdict.facts["target"] == "surprise"
    assert verdict.facts["consent_stated"] is True

    page.locator("#edit-reset").click()
    assert pixels(page, 0) == pixels(page, 1)
    assert page.locator("#edit-save").is_disabled()


def test_the_editor_opens_at_the_chosen_face_and_draws_small_previews_of_it(
    visit: Any, models: dict[str, Any], examples: Path
) -> None:
    page = (one := visit()).page
    one.read(examples / "group_1.jpg")
    page.locator("#read-faces button").nth(2).click()
    edits: list[Any] = []
    most: list[int] = []
    page.on("request", lambda request: "/v1/edits" in request.url and edits.append(request))

    def ended(request: Any) -> None:
        if request in edits:
            most.append(len(edits))
            edits.remove(request)

    page.on("requestfinished", ended)
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled")
    assert page.locator("#edit-faces button[aria-pressed=true]").inner_text() == "2"
    page.wait_for_selector("#edit-tiles .tile:last-child canvas")
    assert max(most) <= 2  # the picture's and the previews' one
    # The face fills the stage: its box in the photo is a small part of it.
    box = models["pipeline"](examples / "group_1.jpg").faces[2].box
    size = page.locator("#edit-stage canvas").nth(0).evaluate("node => [node.width, node.height]")
    assert max(size) <= 2.2 * max(box.width, box.height)
    shots = page.locator("#edit-tiles canvas").evaluate_all("nodes => nodes.map(node => node.toDataURL())")
    assert len(set(shots)) == 7
    asked = len(one.asked)
    page.locator("#edit-faces button").nth(2).click()
    page.wait_for_selector("#edit-tiles .tile:last-child canvas")
    assert sum("/v1/edits" in url for url in one.asked[asked:]) <= 1, "the previews are kept"
    page.route("**/v1/edits", lambda route: None)
    page.locator("#edit-faces button").nth(4).click()
    page.wait_for_selector("#edit-stage.busy")
    assert page.locator("#edit-tiles canvas").count() == 0, "the previews of another face are gone"
    page.unroute("**/v1/edits")


def test_a_moved_slider_asks_for_the_latest_only(visit: Any, examples: Path) -> None:
    page = (one := visit()).page
    one.read(examples / "portrait_neutral.jpg")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-tiles .tile:last-child canvas")
    page.wait_for_selector("#edit-stage:not(.busy)")
    asked: list[str] = []
    page.on("request", lambda request: "/v1/edits" in request.url and asked.append(request.post_data or ""))
    page.evaluate(
        """() => {
          for (let step = 1; step <= 20; step += 1) {
            const slider = document.getElementById("intensity");
            slider.value = step / 20;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
          }
        }"""
    )
    page.wait_for_selector("#edit-stage:not(.busy)")
    assert len(asked) == 2, "the first, and the latest when that was answered"


def test_the_arrow_keys_go_through_the_faces(visit: Any, models: dict[str, Any], examples: Path) -> None:
    page = (one := visit()).page
    one.read(examples / "group_1.jpg")
    expected = models["pipeline"](examples / "group_1.jpg").faces
    page.locator("#read-faces button").first.focus()
    for key, number in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("End", 5),
        ("ArrowRight", 0),
        ("ArrowLeft", 5),
    ):
        page.keyboard.press(key)
        assert page.locator("#read-panel .kicker").inner_text() == f"Face {number} shows"
        assert page.locator("#read-title").inner_text() == expected[number].expression
        assert page.evaluate("document.activeElement.innerText").strip().endswith(str(number))
        assert page.locator("svg.over .on .number").text_content() == str(number)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "read-edit"
    page.keyboard.press("Enter")
    page.wait_for_selector("#edit-save:enabled, #edit-problem:visible")
    assert page.locator("#edit-faces button[aria-pressed=true]").inner_text() == "5"


def test_on_a_phone_the_picture_stays_in_sight(visit: Any, examples: Path) -> None:
    page = (one := visit(viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)).page
    one.read(examples / "portrait_neutral.jpg")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled")
    of_moves = ["[aria-label='inner brows raised']", "[aria-label=smile]", "#moves-more summary"]
    for control in ("#intensity", "#mouth", "#edit-save", *of_moves, "#edit-save"):
        if control == of_moves[0]:
            page.locator(".segments").get_by_text("Movements").click()
            move(page, "smile", 0.7)
        page.locator(control).focus()
        page.wait_for_timeout(200)
        stage, box = (
            page.locator(".keep:has(#edit-stage)").bounding_box(),
            page.locator(control).bounding_box(),
        )
        assert stage["y"] >= 0
        assert stage["y"] + stage["height"] < box["y"], f"{control} is below the picture"
        assert box["y"] + box["height"] <= 800


def test_the_disc_chooses_valence_and_arousal(visit: Any, examples: Path) -> None:
    page = (one := visit()).page
    page.locator("#tab-edit").click()
    page.locator("#edit .examples button").nth(1).click()
    one.state_purpose()
    page.wait_for_selector("#edit-save:enabled")
    page.wait_for_selector("#edit-stage:not(.busy)")
    page.get_by_text("Valence and arousal", exact=True).click()
    page.wait_for_selector("#edit-stage:not(.busy)")
    box = page.locator("#edit-disc svg").bounding_box()

    def of_affect(answer: Any) -> bool:
        return "/v1/edits" in answer.url and str(answer.json()["target"]).startswith("valence 0.")

    with page.expect_response(of_affect):  # the upper right: pleasant and activated
        page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.3)
    assert 0.3 < float(page.locator("#valence").input_value()) < 0.7
    assert 0.3 < float(page.locator("#arousal").input_value()) < 0.7
    page.wait_for_selector("#edit-save:enabled")
    assert page.locator("#edit-disc svg").get_attribute("aria-label").startswith("Valence +0.")


def open_movements(one: Any, file: Path) -> Any:
    """Read a photo, and edit it by its facial movements."""
    page = one.page
    one.read(file)
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled")
    page.locator(".segments").get_by_text("Movements").click()
    page.wait_for_selector("#edit-save:disabled")
    return page


def slider(page: Any, words: str) -> Any:
    return page.get_by_role("slider", name=words, exact=True)


def by_movements(answer: Any) -> bool:
    """Whether an answer is an edit by facial actions, and not a small preview."""
    return "/v1/edits" in answer.url and "=" in answer.json()["target"]


def move(page: Any, words: str, value: float) -> dict[str, Any]:
    """Move a slider; the answer with what was drawn."""
    page.wait_for_selector("#edit-stage:not(.busy)")
    with page.expect_response(by_movements) as waiting:
        slider(page, words).fill(str(value))
    page.wait_for_selector("#edit-stage:not(.busy)")
    return dict(waiting.value.json())


def test_a_slider_for_every_movement_that_can_be_edited_starts_at_what_the_face_shows(
    visit: Any, models: dict[str, Any], examples: Path
) -> None:
    page = open_movements(visit(), examples / "portrait_neutral.jpg")
    actions = models["pipeline"](examples / "portrait_neutral.jpg").faces[0].reading.actions
    movements = page.evaluate("async () => (await import('./actions.js')).MOVEMENTS")
    editable = [one for one in movements if one["name"] != "tongueOut"]
    assert sorted(name for one in editable for name in one["actions"]) == sorted(
        models["editor"].actions.editable
    )
    assert {one["name"]: tuple(one["actions"]) for one in movements} == {
        name: sides for name, sides in SIDES.items() if not name.startswith(GAZE)
    }
    assert page.locator("#moves-first .move input").count() == 13
    assert not slider(page, "dimples").is_visible()
    page.locator("#moves-more summary").click()
    for one in editable:
        values = [actions.get(name) for name in one["actions"]]
        known = None not in values
        expected = sum(round(value, 2) for value in values) / len(values) if known else 0
        node = slider(page, one["words"])
        assert node.is_visible()
        assert float(node.input_value()) == pytest.approx(expected, abs=0.0101), one["name"]
        assert node.locator("xpath=..").locator(".now").count() == int(known)
    assert page.locator("#edit-strength").is_hidden()
    assert page.locator("#record-target").inner_text() == "nothing yet"
    assert pixels(page, 0) == pixels(page, 1)


def test_moved_movements_are_drawn_read_back_and_put_back(visit: Any, examples: Path) -> None:
    page = open_movements(visit(), examples / "portrait_neutral.jpg")
    first = move(page, "mouth open", 0.6)
    assert first["faces"][0]["asked"] == {"jawOpen": 0.6}
    assert first["faces"][0]["intensity"] == 1
    assert far(pixels(page, 0), pixels(page, 1)) > 0.1
    before, after = (first["faces"][0][when]["actions"]["jawOpen"] for when in ("before", "after"))
    assert (
        page.locator("#edit-back")
        .inner_text()
        .startswith(f"Mouth open {before * 100:.0f} % before, {after * 100:.0f} % after.")
    )
    assert move(page, "smile", 0.4)["target"] == "jawOpen=0.6,mouthSmile=0.4"
    assert page.locator("#record-target").inner_text() == "mouth open 60 %; smile 40 %"

    apart = page.get_by_role("button", name="L/R: smile, left and right apart")
    apart.press("Enter")
    assert apart.get_attribute("aria-pressed") == "true"
    assert slider(page, "smile, right").input_value() == "0.4"
    split = move(page, "smile, left", 0.8)["faces"][0]["asked"]
    assert split == {"jawOpen": 0.6, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.4}
    apart.press("Enter")
    assert slider(page, "smile").input_value() == "0.6"
    page.get_by_role("button", name="Undo: smile").press("Enter")
    assert page.evaluate("document.activeElement.ariaLabel") == "smile"
    assert page.locator("#record-target").inner_text() == "mouth open 60 %"
    assert move(page, "eyes wide", 0.5)["target"] == "eyeWide=0.5,jawOpen=0.6"

    page.locator("#edit-reset").click()
    assert pixels(page, 0) == pixels(page, 1)
    assert page.locator("#edit-save").is_disabled()
    assert page.locator("#by-moves").is_visible()
    assert page.locator(".move.moved").count() == 0
    assert page.locator("#edit-back").inner_text() == ""


def by_gaze(answer: Any) -> bool:
    return "/v1/edits" in answer.url and "gaze" in answer.json()["target"]


def test_the_eyes_are_turned_by_sliders_and_in_a_field(visit: Any, examples: Path) -> None:
    page = open_movements(visit(), examples / "portrait_neutral.jpg")
    across, up = slider(page, "gaze to the side"), slider(page, "gaze up or down")
    assert (across.input_value(), across.get_attribute("aria-valuetext")) == ("0", "as it is")
    across.focus()
    with page.expect_response(by_gaze) as waiting:
        page.keyboard.press("PageUp")
    degrees = int(across.input_value())
    assert degrees > 0
    assert across.get_attribute("aria-valuetext") == f"{degrees} degrees to the photo’s right"
    page.wait_for_selector("#edit-stage:not(.busy)")
    with page.expect_response(by_gaze) as waiting:
        across.fill("9")
    answer = waiting.value.json()
    assert answer["target"] == "gaze 0.6,0"
    assert answer["faces"][0]["asked"] == {}
    assert answer["faces"][0]["gaze"] == pytest.approx([0.6, 0])
    page.wait_for_selector("#edit-save:enabled")
    assert page.locator("#record-target").inner_text() == "eyes turned 9° to the photo’s right"
    assert re.match(r"Gaze .* before, → [^0]\d*°.* after\.", page.locator("#edit-back").inner_text())

    box = page.locator("#gaze-field").bounding_box()
    page.wait_for_selector("#edit-stage:not(.busy)")
    with page.expect_response(by_gaze):  # the lower left
        page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.7 * box["height"])
    assert int(across.input_value()) < -9
    assert int(up.input_value()) < -5
    page.wait_for_selector("#edit-stage:not(.busy)")
    assert move(page, "mouth open", 0.6)["target"].startswith("jawOpen=0.6 and gaze -")
    assert page.locator("#record-target").inner_text().endswith("° down; mouth open 60 %")

    page.get_by_role("button", name="Undo: gaze").press("Enter")
    assert page.evaluate("document.activeElement.ariaLabel") == "gaze to the side"
    assert page.locator("#record-target").inner_text() == "mouth open 60 %", "the other movements stay"
    across.fill("-4")
    page.locator("#edit-reset").click()
    assert (across.input_value(), up.input_value()) == ("0", "0")
    assert pixels(page, 0) == pixels(page, 1)


def test_the_movements_are_those_of_the_chosen_face(
    visit: Any, models: dict[str, Any], examples: Path
) -> None:
    page = (one := visit()).page
    one.read(examples / "group_1.jpg")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-faces button[aria-pressed=true]")
    page.locator(".segments").get_by_text("Movements").click()
    for number in (1, 2):
        page.locator("#edit-faces button").nth(number).click()
        actions = models["pipeline"](examples / "group_1.jpg").faces[number].reading.actions
        assert float(slider(page, "mouth open").input_value()) == round(actions["jawOpen"], 2)
        page.wait_for_selector("#edit-save:disabled")
        assert move(page, "mouth open", 0.77)["target"] == "jawOpen=0.77"
        assert page.locator("#by-moves").is_visible()


def like(page: Any, file: Path) -> None:
    with page.expect_file_chooser() as waiting:
        page.locator("#like-pick").click()
    waiting.value.set_files(str(file))


def test_a_face_moves_like_the_one_of_another_photo(
    visit: Any, models: dict[str, Any], examples: Path, tmp_path: Path
) -> None:
    from PIL import Image

    page = open_movements(visit(), examples / "portrait_neutral.jpg")
    expected = models["pipeline"](examples / "portrait_smiling.jpg").faces[0].reading.actions
    with page.expect_response(by_movements) as waiting:
        like(page, examples / "portrait_smiling.jpg")
    asked = waiting.value.json()["faces"][0]["asked"]
    assert asked["mouthSmileLeft"] == pytest.approx(expected["mouthSmileLeft"], abs=0.05)
    assert not [name for name in asked if name.startswith(GAZE) or expected[name] is None]
    assert float(slider(page, "smile").input_value()) == asked["mouthSmileLeft"]
    assert page.locator("#like-face canvas").count() == 1
    assert re.search(r"\(\d+ moved\)", page.locator("#moves-more summary").inner_text())

    page.wait_for_selector("#edit-stage:not(.busy)")
    move(page, "mouth open", 0.7)
    page.locator("#like-remove").press("Enter")
    assert page.evaluate("document.activeElement.id") == "like-pick"
    assert page.locator("#like-face canvas").count() == 0
    assert page.locator("#record-target").inner_text() == "mouth open 70 %", "what was moved by hand stays"

    Image.new("RGB", (400, 300), (90, 120, 110)).save(tmp_path / "wall.png")
    like(page, tmp_path / "wall.png")
    page.locator("#like-problem", has_text="no face in that photo").wait_for()
    assert page.locator("#record-target").inner_text() == "mouth open 70 %"
    with page.expect_response(by_movements):
        page.evaluate(
            """async () => {
              const blob = await (await fetch("/examples/portrait_smiling.jpg")).blob();
              const files = new DataTransfer();
              files.items.add(new File([blob], "dropped.jpg", { type: "image/jpeg" }));
              const place = document.getElementById("like-said");
              place.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: files }));
            }"""
        )
    assert page.locator("#like-problem").is_hidden()
    assert page.locator("#edit-work").is_visible(), "the photo that is edited is still open"


def test_a_refused_edit_offers_to_go_on(visit: Any, examples: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.open(examples / "portrait_neutral.jpg").resize((72, 72)).save(tmp_path / "small.png")
    page = (one := visit()).page
    one.read(tmp_path / "small.png")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-problem:visible")
    assert "--" not in page.locator("#edit-problem").inner_text()
    assert page.locator("#edit-save").is_disabled()
    page.get_by_role("button", name="Edit anyway").click()
    page.wait_for_selector("#edit-save:enabled")
    assert "Edited although the face is" in page.locator("#edit-said").inner_text()
    one.complaints[:] = [text for text in one.complaints if "422" not in text]


def test_a_batch_becomes_a_table_and_a_csv(
    visit: Any, models: dict[str, Any], examples: Path, tmp_path: Path
) -> None:
    formula = tmp_path / "=cmd,1.jpg"
    formula.write_bytes((examples / "portrait_smiling.jpg").read_bytes())
    (tmp_path / "bad.jpg").write_bytes(b"no")
    page = (one := visit()).page
    page.locator("#tab-batch").click()
    page.set_input_files(
        "#file-many", [str(examples / "group_2.jpg"), str(formula), str(tmp_path / "bad.jpg")]
    )
    one.state_purpose()
    page.wait_for_selector("#batch-stop:disabled")
    assert page.locator("#batch-count").inner_text() == "3 of 3 photos"
    with page.expect_download() as waiting:
        page.locator("#batch-save").click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    from mien.io.columns import columns_of

    assert list(rows[0]) == [column.name for column in columns_of(landmarks=False)]
    assert [row["input"] for row in rows] == ["group_2.jpg"] * 7 + ["'=cmd,1.jpg", "bad.jpg"]
    expected = models["pipeline"](examples / "group_2.jpg").faces
    assert [row["face"] for row in rows] == ["0", "1", "2", "3", "4", "5", "6", "0", ""]
    assert [row["expression"] for row in rows[:7]] == [face.expression for face in expected]
    assert float(rows[2]["valence"]) == pytest.approx(expected[2].valence)
    assert float(rows[2]["fear"]) == pytest.approx(expected[2].probabilities["fear"])
    assert "not a picture" in rows[-1]["error"]
    parquet = pytest.importorskip("pyarrow.parquet")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Parquet").click()
    assert waiting.value.suggested_filename == "mien.parquet"
    table = parquet.read_table(waiting.value.path()).to_pylist()
    assert table[2]["valence"] == float(rows[2]["valence"])
    assert table[7]["input"] == "=cmd,1.jpg"
    one.complaints[:] = [text for text in one.complaints if "415" not in text]


def test_a_batch_is_sorted_filtered_opened_and_reported(
    visit: Any, models: dict[str, Any], examples: Path, tmp_path: Path
) -> None:
    page = (one := visit()).page
    page.locator("#tab-batch").click()
    names = ("group_1.jpg", "portrait_smiling.jpg")
    page.set_input_files("#file-many", [str(examples / name) for name in names])
    one.state_purpose()
    page.wait_for_selector("#batch-stop:disabled")
    faces = [(name, face) for name in names for face in models["pipeline"](examples / name).faces]
    rows = page.locator("#batch-table tbody tr")
    assert rows.count() == page.locator("#batch-table tbody canvas").count() == len(faces)

    for order, reverse in (("ascending", False), ("descending", True)):
        page.locator("[data-by=valence]").click()
        assert page.locator("th:has([data-by=valence])").get_attribute("aria-sort") == order
        shown = [
            text.replace("−", "-")
            for text in page.locator("#batch-table tbody tr td:nth-child(6)").all_inner_texts()
        ]
        assert shown == [
            signed(face.valence)
            for face in sorted((f for _, f in faces), key=lambda f: f.valence, reverse=reverse)
        ]
    label = faces[0][1].expression
    page.locator("#batch-filter").select_option(f"label {label}")
    assert rows.count() == sum(face.expression == label for _, face in faces)
    page.locator("#batch-filter").select_option("uncertain")
    assert rows.count() == sum(face.reading.uncertain for _, face in faces)
    page.locator("#batch-filter").select_option("all")

    asked = len(one.asked)
    page.get_by_role("button", name="Open face 3 of group_1.jpg").press("Enter")
    page.wait_for_selector("#read-faces button[aria-pressed=true]")
    assert page.locator("#read-panel .kicker").inner_text() == "Face 3 shows"
    assert not any("/v1/analyses" in url for url in one.asked[asked:]), "it has been read before"

    page.locator("#tab-batch").click()
    with page.expect_download() as waiting:
        page.locator("#batch-report").click()
    report = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(report)
    other = one.context.new_page()
    loaded: list[str] = []
    other.on("request", lambda request: loaded.append(request.url))
    other.goto(report.as_uri())
    assert other.locator("table").last.locator("tbody tr").count() == len(faces)
    assert other.evaluate("[...document.images].every(picture => picture.naturalWidth > 0)")
    assert "not what the person feels" in other.locator("body").inner_text()
    assert [url for url in loaded if not url.startswith(("file:", "data:"))] == []


def test_the_camera_is_read_live_and_recorded(visit: Any, models: dict[str, Any]) -> None:
    page = (one := visit()).page
    page.evaluate(
        """() => {
          window.frames_ = { under_way: 0, most: 0 };
          const send = WebSocket.prototype.send;
          WebSocket.prototype.send = function (data) {
            frames_.under_way += 1;
            frames_.most = Math.max(frames_.most, frames_.under_way);
            this.addEventListener("message", () => (frames_.under_way -= 1), { once: true });
            send.call(this, data);
          };
        }"""
    )
    page.locator("#tab-live").click()
    page.locator("#live-empty [data-live-camera]").click()
    one.state_purpose()
    page.wait_for_selector("#live-panel .dial")
    assert page.locator("#live-title").inner_text() in EXPRESSIONS
    assert page.locator("#live-stage .box").count() == 1
    page.wait_for_selector("#live-panel .moves")
    assert page.locator("#live-title").inner_text() in page.locator("#live-labels span").all_inner_texts()
    page.locator("#live-curves rect").first.wait_for(state="attached")
    fills = page.locator("#live-curves rect").evaluate_all(
        "all => all.map((one) => one.getAttribute('fill'))"
    )
    assert all(one != other for one, other in pairwise(fills)), "a label that lasts is one piece"
    page.locator("#live-record").click()
    page.locator("#live-count", has_text=re.compile(r"^(?:[3-9]|\d\d+) rows")).wait_for()
    page.locator("#live-record").click()
    assert page.evaluate("frames_.most") == 1, "the next frame is sent after the answer"
    with page.expect_download() as waiting:
        page.locator("#live-save").click()
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    from mien.io.columns import columns_of

    assert list(rows[0]) == [
        column.name for column in columns_of(landmarks=False, labels=models["pipeline"].labels)
    ]
    assert len(rows) >= 3
    assert {row["input"] for row in rows} == {"camera"}
    times = [float(row["approx_time"]) for row in rows]
    assert times == sorted(set(times))
    assert {row["error"] for row in rows} == {""}
    page.locator("#tab-read").click()
    assert page.evaluate("document.querySelector('#live-video').srcObject") is None


def film(folder: Path, examples: Path, frames: int = 60) -> Path:
    """A short video of a portrait."""
    av = pytest.importorskip("av")
    import numpy as np
    from PIL import Image

    frame = np.asarray(Image.open(examples / "portrait_smiling.jpg").convert("RGB").resize((320, 320)))
    path = folder / "film.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width = stream.height = 320
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video_is_read_live(visit: Any, examples: Path, tmp_path: Path) -> None:
    film(tmp_path, examples)
    page = (one := visit()).page
    page.locator("#tab-live").click()
    page.set_input_files("#file-film", str(tmp_path / "film.webm"))
    one.state_purpose()
    page.wait_for_selector("#live-panel .dial")
    page.locator("#live-span", has_text="the last 10 seconds").wait_for()
    page.locator("#live-stop").click()
    assert page.locator("#live-empty").is_visible(), "nothing was recorded"
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    page.set_input_files("#file-film", str(tmp_path / "broken.mp4"))
    page.locator("#live-problem", has_text="cannot play").wait_for()


def test_a_video_gets_its_summary_page_in_place(visit: Any, examples: Path, tmp_path: Path) -> None:
    clip = film(tmp_path, examples, 20)
    page = (one := visit()).page
    page.locator("#tab-live").click()
    page.set_input_files("#file-film", str(clip))
    one.state_purpose()
    page.wait_for_selector("#live-panel .dial")
    page.locator("#live-summary").click()
    assert not page.locator("#live-work").is_visible(), "live reading stops"
    summary = page.frame_locator("#film-page iframe")
    summary.get_by_role("heading", name="Person 0").wait_for()
    assert "20 frames analysed" in summary.locator("header").inner_text()
    assert summary.locator("body").evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    share = summary.locator("svg.shares rect").first
    assert share.evaluate("(rect) => getComputedStyle(rect).fill") != "rgb(0, 0, 0)"
    inner = summary.locator("html").evaluate("(root) => root.scrollHeight")
    assert page.locator("#film-page iframe").bounding_box()["height"] >= inner, "the frame does not scroll"
    assert not page.locator("#film-progress").is_visible()
    ground = "(body) => getComputedStyle(body).backgroundColor"
    light = summary.locator("body").evaluate(ground)
    while page.locator("html").get_attribute("data-theme") != "dark":
        page.locator("#theme").click()
    assert summary.locator("body").evaluate(ground) != light, "it takes the colours that were chosen here"

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Summary page").click()
    assert waiting.value.suggested_filename == "film.html"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    assert waiting.value.suggested_filename == "film.csv"
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    assert [row["frame"] for row in rows] == [str(number) for number in range(20)]

    page.locator("#tab-read").click()
    page.locator("#tab-live").click()
    assert page.locator("#film-page iframe").is_visible(), "it stays while one looks elsewhere"
    page.locator("#film [data-pick=live]").focus()
    page.set_input_files("#file-film", str(clip))
    page.wait_for_selector("#live-panel .dial")
    assert not page.locator("#film").is_visible()


def test_a_video_that_the_browser_does_not_play_can_still_be_summarised(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    page = (one := visit()).page
    page.locator("#tab-live").click()
    page.set_input_files("#file-film", str(tmp_path / "broken.mp4"))
    one.state_purpose()
    page.locator("#live-problem", has_text="cannot play").wait_for()
    page.get_by_role("button", name="Summary of the whole video").click()
    page.locator("#film-problem", has_text="cannot be read").wait_for()
    assert not page.locator("#live-problem").is_visible()
    assert page.locator("#film [data-pick=live]").is_visible()


def test_the_keyboard_is_enough(visit: Any) -> None:
    page = visit().page

    def focused() -> str:
        return str(
            page.evaluate(
                "document.activeElement.id || document.activeElement.innerText || document.activeElement.ariaLabel"
            )
        )

    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused() == "tab-read"
    page.keyboard.press("ArrowRight")
    assert focused() == "tab-edit"
    assert page.locator("#edit").is_visible()
    page.keyboard.press("End")
    assert focused() == "tab-batch"
    page.keyboard.press("Home")
    for _ in range(5):  # theme, the panel's two buttons, and on to the first example
        page.keyboard.press("Tab")
        if focused().startswith("Example"):
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert page.evaluate("document.activeElement.ariaLabel").startswith("Example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#purpose[open]")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector("#read-stage:not(.busy) svg.over", state="attached")
    assert focused() == "read-panel"
    assert page.locator("#status").inner_text().startswith("One face. The face shows")


def test_the_camera_gives_a_picture(visit: Any) -> None:
    page = (one := visit()).page
    page.get_by_role("button", name="Use the camera").first.click()
    page.wait_for_selector("#camera-take:enabled")
    page.locator("#camera-take").click()
    one.state_purpose()
    page.wait_for_selector("#read-stage:not(.busy) svg.over", state="attached")
    assert page.evaluate("document.querySelector('#camera-view').srcObject") is None


def test_a_photo_can_be_pasted(visit: Any) -> None:
    page = (one := visit()).page
    page.evaluate(
        """async () => {
          const blob = await (await fetch("/examples/portrait_smiling.jpg")).blob();
          const data = new DataTransfer();
          data.items.add(new File([blob], "pasted.jpg", { type: "image/jpeg" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }"""
    )
    one.state_purpose()
    page.wait_for_selector(".bars")


MESSAGES = {
    "the upload holds 21.3 MB, the limit is 16.0 MB: scale the picture down, or start the server with a higher "
    "--max-bytes": "The upload holds 21.3 MB, the limit is 16.0 MB: scale the picture down.",
    "the picture holds 120 faces, the limit is 100: send it in parts, or start the server with a higher --max-faces": (
        "The picture holds 120 faces, the limit is 100: send it in parts."
    ),
    "face 0: the head is turned by 31 degrees, more than 25: choose another photo, or pass force (--force)": (
        "Face 0: the head is turned by 31 degrees, more than 25: choose another photo."
    ),
}


def test_messages_are_words_for_people(visit: Any) -> None:
    page = visit().page
    plain = "async ([code, text]) => (await import('./api.js')).plain(code, text)"
    for given, expected in MESSAGES.items():
        assert page.evaluate(plain, ["too_large", given]) == expected
    told = page.evaluate(
        plain, ["defect", "a defect of mien (ZeroDivisionError): report it with the server's log"]
    )
    assert "ZeroDivisionError" not in told
    told = page.evaluate(plain, ["not_a_picture", "is not a picture (it begins with the text 'hello')"])
    assert told.startswith("That is not a picture.")


@pytest.fixture
def guarded(models: dict[str, Any]) -> Iterator[Served]:
    """A server without an editor that asks for a key."""
    from mien.server.app import create_app

    running = Served(create_app(models["pipeline"], api_key="correct-horse-battery"))
    yield running
    running.stop()


def test_a_key_is_asked_for_and_a_missing_editor_explained(
    visit: Any, guarded: Served, examples: Path
) -> None:
    page = (one := visit(guarded.address)).page
    page.set_input_files("#file-one", str(examples / "portrait_smiling.jpg"))
    one.state_purpose()
    for word in ("wrong-wrong-wrong", "correct-horse-battery"):
        page.wait_for_selector("#key[open]")
        page.locator("#key-word").fill(word)
        page.keyboard.press("Enter")
    page.wait_for_selector(".bars")
    page.locator("#tab-live").click()
    page.locator("#live-empty [data-live-camera]").click()
    page.wait_for_selector("#live-panel .headline")
    page.locator("#tab-edit").click()
    assert "cannot edit" in page.locator("#edit-none").inner_text()
    assert not page.locator("#edit-drop").is_visible()
    one.complaints[:] = [text for text in one.complaints if "401" not in text]


def test_the_theme_is_kept(visit: Any) -> None:
    page = visit(color_scheme="light").page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    page.locator("#theme").click()
    dark = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == dark


SIZES = {
    "light": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize("look", SIZES)
def test_axe_finds_nothing_and_nothing_overflows(
    visit: Any, look: str, examples: Path, tmp_path: Path
) -> None:
    """axe-core's WCAG 2.2 A and AA rules and best practices, in every state of the page."""
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")
    axe = axe_core.Axe()
    page = (one := visit(**SIZES[look])).page

    def check(state: str) -> None:
        page.wait_for_timeout(250)  # transitions end
        result = axe.run(page)
        assert result.violations_count == 0, f"{state}: {result.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            f"{state} is too wide"
        )

    check("start")
    page.set_input_files("#file-one", str(examples / "group_1.jpg"))
    page.locator("#purposes input[value=work]").check()
    check("purpose")
    one.state_purpose()
    page.wait_for_selector(".bars")
    check("reading")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled, #edit-problem:visible", state="attached")
    check("editor")
    page.get_by_text("Valence and arousal", exact=True).click()
    page.wait_for_timeout(400)
    page.wait_for_selector("#edit-stage:not(.busy)")
    check("disc")
    page.locator(".segments").get_by_text("Movements").click()
    page.locator("#moves-more summary").click()
    page.get_by_role("button", name="L/R: smile, left and right apart").click()
    move(page, "smile, left", 0.7)
    slider(page, "gaze to the side").fill("9")
    check("movements")
    like(page, examples / "portrait_smiling.jpg")
    page.wait_for_selector("#like-remove:visible")
    page.wait_for_selector("#edit-stage:not(.busy)")
    check("movements like another photo")
    page.locator("#edit-compare").click()
    check("compare")
    page.locator("#tab-live").click()
    check("live, start")
    page.locator("#live-empty [data-live-camera]").click()
    page.wait_for_selector("#live-panel .dial")
    page.locator("#live-record").click()
    page.locator("#live-count", has_text=re.compile(r"^(?:[2-9]|\d\d+) rows")).wait_for()
    check("live")
    page.locator("#live-stop").click()
    check("live, stopped")
    page.set_input_files("#file-film", str(film(tmp_path, examples, 20)))
    page.wait_for_selector("#live-panel .dial")
    page.locator("#live-summary").click()
    page.frame_locator("#film-page iframe").get_by_role("heading", name="Person 0").wait_for()
    check("summary of a video")
    page.locator("#tab-batch").click()
    page.set_input_files("#file-many", [str(examples / "astronaut.png")])
    page.wait_for_selector("#batch-stop:disabled")
    for summary in page.locator("summary:visible").all():
        summary.click()
    check("batch")
    one.complaints[:] = [text for text in one.complaints if "422" not in text]
