"""Read and write files atomically: pictures, videos, tables, weights.

Tests: `cards` in tests/faces/test_recognise.py and tests/io/test_onnx.py; `columns` in tests/io/test_tables.py;
`torch_files` in tests/test_no_pickle.py; `video` in tests/video/test_io_video.py.
"""
