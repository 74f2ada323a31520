"""`mien web`: write the page that analyses in the browser, without a server of ours.

Tests: tests/web/test_web.py.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import options, terminal


def web(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    package: Annotated[
        bool, typer.Option("--package", help="Write the folder of an npm package instead of the page.")
    ] = False,
    overwrite: options.Overwrite = False,
    onnxruntime: Annotated[
        Path | None,
        typer.Option(
            "--onnxruntime",
            help="ONNX Runtime Web: the file of `npm pack onnxruntime-web`, or a folder with the package.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Fetch ONNX Runtime Web once from the npm registry, if it is not here yet."
        ),
    ] = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Then serve the folder on this machine, until Ctrl-C; as it is if it exists."
        ),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 8000,
) -> None:
    """Write the page that analyses photos, videos and the camera in the browser.

    The folder is all that a web server needs: nothing is uploaded, and after the first visit the page works without a
    network. Only --download uses the network. --overwrite replaces only a folder that this command wrote.
    """
    from mien.errors import ConfigError
    from mien.web import runtime, site

    begun = time.monotonic()

    if serve and package:
        raise ConfigError("--serve shows the page: leave out --package")
    if overwrite or not (serve and site.is_site(out)):
        site.check(out, overwrite)
        make = site.package if package else site.site
        files = make(runtime.bring(onnxruntime, download))
        site.write(out, files, overwrite)
        terminal.tell_end(site.size_of(files), begun, out)
    if serve:
        _serve(out, port)


def _serve(folder: Path, port: int) -> None:
    from mien.web.serving import server

    with server(folder, port) as running:
        typer.echo(f"running on http://127.0.0.1:{running.server_address[1]}/ (Ctrl-C ends it)", err=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
