"""The files of the page over HTTP: what may be kept, what must be asked for again, and what is nobody's to have."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from infra import web
from tests.journeys.api_stand_in import Running, StandIn

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def hub() -> Iterator[Running]:
    web.build()
    with Running(StandIn()) as running:
        yield running


def fetched(url: str, **headers: str) -> tuple[int, dict[str, str]]:
    asked = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as refused:
        return refused.code, dict(refused.headers)


def test_the_page_is_asked_for_again_and_its_assets_are_kept(hub: Running) -> None:
    status, headers = fetched(f"{hub.url}/")
    assert status == 200
    assert headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert fetched(f"{hub.url}/", If_None_Match=headers["etag"])[0] == 304
    index = (web.STATIC / "index.html").read_text()
    assert re.search(r"<script(?![^>]*\bsrc=)", index) is None
    for name in re.findall(r'"/(assets/[^"]+)"', index):
        status, headers = fetched(f"{hub.url}/{name}")
        assert status == 200
        assert "immutable" in headers["cache-control"]
    assert fetched(f"{hub.url}/assets/..%2f..%2fapi%2fweb.py")[0] == 404
    assert fetched(f"{hub.url}/assets/%2fetc%2fpasswd")[0] == 404
