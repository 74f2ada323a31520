"""The page `/docs`: every operation of the OpenAPI document with its fields, a command line, answers and examples.

A page of our own, because Swagger UI and Redoc are 1.5 and 1 MB of script that build the page in the browser with
inline styles, which the server's content security policy forbids. This one has no script, and loads one stylesheet.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from mien.io import pages
from mien.server import openapi

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATES: Final = Path(__file__).parent / "templates"


def docs_routes() -> APIRouter:
    """The page and its stylesheet."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def page(request: Request) -> Response:
        return HTMLResponse(html(request.app.openapi(), str(request.base_url).rstrip("/")))

    @router.get("/docs.css")
    def style() -> Response:
        shared = Path(pages.__file__).parent / "templates" / "page.css"
        files = (shared, _TEMPLATES / "docs.css")
        return Response("".join(file.read_text(encoding="utf-8") for file in files), media_type="text/css")

    return router


def html(document: dict[str, Any], address: str) -> str:
    """The page of an OpenAPI document, for the server at `address`.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = _operation(method.upper(), path, operation, address)
            groups.setdefault(operation["tags"][0], []).append(shown)
    return pages.render(
        _TEMPLATES / "docs.html",
        "serve",
        info=document["info"],
        groups=groups,
        keyed="securitySchemes" in document.get("components", {}),
    )


def _operation(method: str, path: str, operation: dict[str, Any], address: str) -> dict[str, Any]:
    forms = operation.get("requestBody", {}).get("content", {})
    form = forms.get("multipart/form-data", {}).get("schema", {"properties": {}})
    fields = {
        parameter["name"]: parameter["schema"] | {"description": parameter.get("description", "")}
        for parameter in operation.get("parameters", [])
        if parameter["in"] != "query"  # the fields of a form again, or no field
    }
    fields |= form["properties"]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "text": _marked(operation.get("description", "")),
        "bodies": [kind for kind in forms if kind != "multipart/form-data"],
        "fields": [_field(name, schema) for name, schema in fields.items()],
        "command": openapi.command(operation["operationId"], address, "security" in operation),
        "answers": [_answer(status, response) for status, response in operation["responses"].items()],
    }


def _field(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("anyOf", [schema])
    words = [_kind(kind) for kind in kinds if kind.get("type") != "null"]
    default = schema.get("default")
    return {
        "name": name,
        "kind": " or ".join(words),
        "text": _marked(schema.get("description", "")),
        "default": "" if default is None else json.dumps(default).strip('"'),
    }


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"{_kind(schema['items'])}, may be repeated"
    if schema.get("format") == "binary":
        return "file"
    low, high = schema.get("minimum"), schema.get("maximum")
    span = f" {low:g} to {high:g}" if low is not None and high is not None else ""
    return f"{schema.get('type', 'text')}{span}"


def _answer(status: str, response: dict[str, Any]) -> dict[str, Any]:
    examples = [
        example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
        for content in response.get("content", {}).values()
        if (example := content.get("example")) is not None
    ]
    return {
        "status": status,
        "text": _marked(response.get("description", "")),
        "media": list(response.get("content", {})),
        "examples": examples,
    }


def _marked(text: str) -> Markup:
    """Markup of a description: what is between back-quotes is code."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
