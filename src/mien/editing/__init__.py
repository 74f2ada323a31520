"""The parts of the expression editor: geometry, flow, shading, mouth interior, provenance.

Tests: `geometry`, `mouth_interior`, `photo`, `plan`, `render`, `target` and `warp` in tests/editing/test_editing.py;
`grids` and `results` in tests/editing/test_editor.py; `signing` in tests/editing/test_provenance.py; `corrector` and
`shading` in tests/test_editor_training.py.
"""
