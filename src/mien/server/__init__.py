"""The HTTP server: an API that returns the package's own JSON, and a web page that uses it.

`create_app` in `mien.server.app` makes the application; `mien serve` runs it. It needs `pip install 'mien[serve]'`.

Tests, all through HTTP and in tests/server: `app` and `answers` in tests/server/test_analyses.py; `models` and `schema`
in tests/server/test_edits.py; `pool`, `protocol` and `uploads` in tests/server/test_limits.py; `metrics` in
tests/server/test_middleware.py; `jobs`, `job_files`, `job_routes` and `job_uploads` in tests/server/test_jobs.py;
`docs_page` and `openapi` in tests/server/test_openapi.py.
"""
