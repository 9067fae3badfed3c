"""The only module of the SDK that speaks HTTP. It is imported with the first request, as its library takes a while."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from cluster.sdk.answers import Answer, NoAnswer
from cluster.sdk.requests import Request

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Connection:
    """Keep-alive connections to one hub; for any number of threads.

    Args:
        timeout_s: budget of one try.
        transport: an `httpx2.BaseTransport`, for tests.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, transport: Any = None) -> None:
        self._http = httpx2.Client(**_options(url, key, timeout_s, transport))

    def send(self, request: Request) -> Answer:
        """One try.

        Raises:
            NoAnswer: none came, or not all of it.
        """
        try:
            answer = self._http.request(request.method, request.url, content=request.body, headers=request.headers)
        except httpx2.RequestError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return _answer(answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncConnection:
    """`Connection` for an event loop."""

    def __init__(self, url: str, key: str, *, timeout_s: float, transport: Any = None) -> None:
        self._http = httpx2.AsyncClient(**_options(url, key, timeout_s, transport))

    async def send(self, request: Request) -> Answer:
        """One try.

        Raises: as `Connection.send`.
        """
        try:
            answer = await self._http.request(
                request.method, request.url, content=request.body, headers=request.headers
            )
        except httpx2.RequestError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return _answer(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _options(url: str, key: str, timeout_s: float, transport: Any) -> dict[str, Any]:
    return {
        "headers": {"Authorization": f"Bearer {key}"},
        "timeout": timeout_s,
        "transport": transport,
        # A proxy of the environment cannot reach a hub on this machine.
        "trust_env": urlsplit(url).hostname not in _LOOPBACK,
    }


def _answer(answer: httpx2.Response) -> Answer:
    return Answer(answer.status_code, answer.content, answer.headers.get("retry-after", ""))
