"""The analysis in the browser: a folder of static files that needs no server of ours.

`site` writes the folder from the modules in `engine` (the pipeline in JavaScript), those of the page of `mien serve`,
those in `static` (what only this page has), the package's networks, and ONNX Runtime Web, which `runtime` brings.
`serving` serves such a folder on this machine.
"""
