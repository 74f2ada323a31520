"""`mien` over HTTP: an API that answers with the same JSON as everything else, and one page that uses it.

`create_app` in `mien.server.app` makes the application; `mien serve` runs it. It needs `pip install 'mien[serve]'`.
"""
