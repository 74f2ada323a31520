"""The expression editor: geometry, flow, shading, mouth interior, provenance.

Tests: `geometry`, `mouth_interior`, `photo`, `plan`, `render`, `target` and `warp` in tests/editing/test_editing.py;
`grids` and `results` in tests/editing/test_editor.py; `signing` in tests/editing/test_provenance.py; `edit_files`
in tests/cli/test_edit.py; `shading` in tests/training/editor/test_train.py.
"""
