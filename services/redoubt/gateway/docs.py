"""`/docs`: the API's reference as one page, made from the OpenAPI document, without a script or an outside address."""

from html import escape
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page(request: Request) -> Response:
    """The reference, as people read it."""
    return HTMLResponse(render(request.app.openapi()))


@router.get("/docs/style.css")
async def style() -> Response:
    """Its looks; a file of its own, since the content policy allows no inline styles."""
    return Response((files("redoubt.gateway") / "docs.css").read_text("utf-8"), media_type="text/css")


def render(document: dict[str, Any]) -> str:
    """The OpenAPI document as HTML."""
    schemas = document.get("components", {}).get("schemas", {})
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [_schema(name, schema) for name, schema in sorted(schemas.items()) if "ValidationError" not in name]
    info = document["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(info['title'])} API</title>"
            '<link rel="stylesheet" href="/docs/style.css"></head><body><main>',
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info.get('summary', ''))}</p>",
            "<p>Send the key as <code>Authorization: Bearer rdt_…</code>. The machine-readable form is "
            '<a href="/openapi.json">/openapi.json</a>.</p>',
            "<h2>Operations</h2>",
            *operations,
            "<h2>Request bodies</h2>",
            *shapes,
            "</main></body></html>",
        )
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = str(body.get("$ref", "")).rpartition("/")[2]
    takes = f'<p>Body: <a href="#{escape(name)}">{escape(name)}</a></p>' if name else ""
    return (
        f'<section><h3><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code></h3>'
        f"<p><strong>{escape(operation.get('summary', ''))}</strong></p>"
        f"<p>{escape(operation.get('description', ''))}</p>{takes}</section>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{escape(_type(shape))}</td>"
        f"<td>{'required' if field in required else ''}</td><td>{escape(shape.get('description', ''))}</td></tr>"
        for field, shape in schema.get("properties", {}).items()
    )
    return (
        f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>'
        f"<table><thead><tr><th>field</th><th>type</th><th></th><th></th></tr></thead><tbody>{rows}</tbody></table>"
        "</section>"
    )


def _type(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_type(one) for one in shape["anyOf"] if one.get("type") != "null"))
    if "enum" in shape:
        return " | ".join(str(value) for value in shape["enum"])
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    bounds = [f"{sign} {shape[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in shape]
    return " ".join([str(shape.get("type", "any")), *bounds])
