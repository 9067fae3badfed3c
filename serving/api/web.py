"""The page: `/` and its assets from `serving/static`, with caching and a strict content security policy."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from serving.auth.links import LinkGate

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).resolve().parent.parent / "static"

# Everything from this origin and nothing inline. Styles set by script go through the CSS object model, which needs no
# exception; `frame-ancestors` keeps the page out of foreign frames.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# A board behind a signed link is made to stand in pages of others.
_FRAMED = {**_HEADERS, "Content-Security-Policy": POLICY.replace("frame-ancestors 'none'", "frame-ancestors *")}
# The build puts a hash of the content into the name, so the name never means anything else.
_HASHED = re.compile(r"[\w.]+-[\w-]{8,}\.[a-z0-9]+")
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>LLM Analytics Hub</title></head>
<body><h1>The hub runs, its page is not built yet</h1>
<p>Build it with <code>python3 -m infra setup</code>, then reload.</p>
<p>Everything else works: the API is described at <a href="/docs">/docs</a>, and <code>llmhub query</code> asks the
same questions on the command line.</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page in memory, and the same compressed: the chart library shrinks to a third."""

    content: bytes
    compressed: bytes
    etag: str
    media_type: str


_loaded: dict[str, tuple[tuple[int, int], Asset]] = {}


def load(name: str) -> Asset | None:
    """File of the build, read once per change; None for what is not in the build, whatever the name tries."""
    path = (STATIC / name).resolve()
    if not path.is_relative_to(STATIC) or path.suffix not in {*_TYPES, ".woff2", ".png", ".ico"} or not path.is_file():
        return None
    facts = path.stat()
    version = (facts.st_mtime_ns, facts.st_size)
    known = _loaded.get(name)
    if known is not None and known[0] == version:
        return known[1]
    content = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    asset = Asset(
        content, gzip.compress(content, 9, mtime=0), f'"{hashlib.sha256(content).hexdigest()[:24]}"', media_type
    )
    _loaded[name] = (version, asset)
    return asset


def _answer(request: Request, asset: Asset, caching: str, policy: dict[str, str]) -> Response:
    # A weak tag: the bytes on the wire differ by encoding, what they mean does not.
    headers = {**policy, "ETag": f"W/{asset.etag}", "Cache-Control": caching, "Vary": "Accept-Encoding"}
    asked = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if asset.etag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, media_type=asset.media_type, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.api_route("/", methods=["GET", "HEAD"])
def page(request: Request) -> Response:
    """The web application, or where it should come from."""
    return _page(request, _HEADERS)


@router.api_route("/embed/{dashboard_id}", methods=["GET", "HEAD"])
async def embedded(request: Request, dashboard_id: str) -> Response:
    """The same application on one board, for a token that opens it; others see a refusal and nothing else."""
    gate: LinkGate = request.app.state.links
    await gate.open(request, dashboard_id, request.query_params.get("token", ""))
    return _page(request, _FRAMED)


def _page(request: Request, policy: dict[str, str]) -> Response:
    index = load("index.html")
    if index is None:
        # 503: a monitor that watches the page must see that it is not there.
        headers = {**policy, "Cache-Control": "no-store", "Retry-After": "30"}
        return Response(_NOT_BUILT, status_code=503, media_type="text/html", headers=headers)
    return _answer(request, index, _ASK_AGAIN, policy)


@router.api_route("/assets/{name:path}", methods=["GET", "HEAD"])
def asset(request: Request, name: str) -> Response:
    """A file of the page; those named by their content stay in the browser for good."""
    found = load(f"assets/{name}")
    if found is None:
        # An old page may ask for a file of the build before: it must not keep the refusal.
        return Response(
            "not found", status_code=404, media_type="text/plain", headers={**_HEADERS, "Cache-Control": "no-store"}
        )
    return _answer(request, found, _FOREVER if _HASHED.fullmatch(name) else _ASK_AGAIN, _HEADERS)
