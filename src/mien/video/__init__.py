"""Track, recognise and smooth every face in every frame of a video.

Tests: `analyser` and `resume` in tests/video/test_process.py; `annotate` in tests/video/test_video_annotate.py;
`baseline` in tests/video/test_video_baseline.py; `appearance` in tests/video/test_identities.py; `statistics` in
tests/video/test_summary_page.py.
"""

from mien.io.video import VideoError, VideoReader
from mien.video.analyser import Analyser, analyse
from mien.video.baseline import CalmestSecond, Span

__all__ = ["Analyser", "CalmestSecond", "Span", "VideoError", "VideoReader", "analyse"]
