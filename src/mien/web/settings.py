"""The constants of the pipeline that the modules in `engine` read, so that they have one home: the Python package."""

from __future__ import annotations

from typing import Any

from mien import __version__, actions, landmarks
from mien.faces import action_reader, align, detect, detector_network, landmarker, pipeline, visibility
from mien.io import columns, images
from mien.labels import EXPRESSIONS
from mien.video import tracking


def settings() -> dict[str, Any]:
    """Everything as JSON values; `engine` refers to it by these names."""
    search = detect.MienDetector
    return {
        "version": __version__,
        "expressions": EXPRESSIONS,
        "actions": actions.ACTIONS,
        "units": {
            name: {"left": unit.left, "right": unit.right, "both": unit.both}
            for name, unit in actions.UNITS.items()
        },
        "unit_names": actions.UNIT_NAMES,
        "parted": actions.PARTED,
        "columns": [column.name for column in columns.columns_of(landmarks=False)],
        "pipeline": {
            "presence": pipeline.PRESENCE,
            "unsure": detector_network.UNSURE,
            "unsure_odds": pipeline.UNSURE_ODDS,
            "soft": pipeline.SOFT,
            "doubtful": pipeline.DOUBTFUL,
            "max_pixels": images.MAX_PIXELS,
        },
        "detector": {
            "minimum": search.minimum,
            "confidence": search.confidence,
            "side": search.side,
            "first": search.first,
            "reliable": detect.MIN_RELIABLE_WIDTH,
            "small": detect._SMALL,
            "long": detect._LONG,
            "further": detect._FURTHER,
            "strides": detector_network.STRIDES,
            "multiple": detector_network.MULTIPLE,
            "grey": detector_network.GREY,
            "merged": detector_network.OVERLAP,
            "unsure": detector_network.UNSURE,
            "crop": detect.CROP,
            "crop_aspect": detect.CROP_ASPECT,
            "overlap": detect.OVERLAP,
            "inside": detect.INSIDE,
        },
        "landmarks": {
            "points": len(landmarks.POINTS),
            "right_eye_corners": landmarks.RIGHT_EYE_CORNERS,
            "left_eye_corners": landmarks.LEFT_EYE_CORNERS,
            "nose_bottom": landmarks.NOSE_BOTTOM,
        },
        "landmarker": {
            "side": landmarker.SIDE,
            "margin": landmarker.MARGIN,
            "batch": landmarker.NETWORK_BATCH,
            "looks": landmarker.LOOKS,
            "taller": landmarker.TALLER,
            "lift": landmarker.LIFT,
            "plain": landmarker.PLAIN,
            "tilt": landmarker.TILT,
            "turned": landmarker.TURNED,
            "turn_factor": landmarker.TURN_FACTOR,
        },
        "tracking": {
            "shortest": tracking.SHORTEST,
            "longest": tracking.LONGEST,
            "sure": tracking.SURE,
            "faintest": tracking._FAINTEST,
            "together": tracking._TOGETHER,
        },
        "align": {
            "template": align.TEMPLATE.tolist(),
            "sharpest": align.MAX_SAMPLES,
            "angle_step": align.ANGLE_STEP,
        },
        "visibility": {"size": visibility.SIZE},
        "action_reader": {"size": action_reader.SIZE, "shut": actions.SHUT, "lids": actions.LIDS},
    }
