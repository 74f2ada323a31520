"""The command line: each command parses, calls one function of the package, and prints.

Tests: `completion` in tests/cli/test_main.py; `data` in tests/data/test_doctor.py; `batch` in
tests/batch/test_batch.py; `figures` in tests/test_evaluate.py; `serve` in tests/server/test_serve.py; `video` in
tests/video/test_process.py.
"""
