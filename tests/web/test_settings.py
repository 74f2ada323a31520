"""The constants that the modules in the browser read are those of the Python package, and all that they read exist."""

from __future__ import annotations

import json
import re
from typing import Any

from mien import actions
from mien.faces import align, landmarker, pipeline
from mien.io.columns import columns_of
from mien.web.settings import settings
from mien.web.site import SOURCE


def test_they_are_json_and_those_of_the_package() -> None:
    known: dict[str, Any] = json.loads(json.dumps(settings()))
    assert known["pipeline"]["presence"] == pipeline.PRESENCE
    assert known["align"]["template"] == align.TEMPLATE.tolist()
    assert known["landmarker"]["looks"] == landmarker.LOOKS
    assert tuple(known["actions"]) == actions.ACTIONS
    assert known["columns"] == [column.name for column in columns_of(landmarks=False)]
    assert set(known["units"]) == {name.partition("_")[0] for name in known["unit_names"]}


def test_every_module_asks_for_settings_that_exist() -> None:
    known = settings()
    asked = {
        found
        for path in (SOURCE / "engine").glob("*.js")
        for found in re.findall(r"settings\.([a-z_]+)", path.read_text(encoding="utf-8"))
    } - {"json"}
    assert asked <= known.keys()
    assert len(asked) > 8
