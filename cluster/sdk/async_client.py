"""AsyncHubClient: the same for an event loop, never blocked: `record` writes to memory, threads do the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from cluster.sdk.answers import Answer, NoAnswer, Receipt, receipt
from cluster.sdk.background import Background
from cluster.sdk.connection import AsyncConnection
from cluster.sdk.counts import Counts
from cluster.sdk.requests import (
    ARROW_STREAM,
    NDJSON,
    PROTOBUF,
    Parameters,
    Request,
    Signal,
    arrow_stream,
    decoded,
    lines,
)


class AsyncHubClient(Background):
    """One hub, one key, one event loop. Its arguments are those of `Background`."""

    _may_block = False
    _async_connection: AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def after_fork(self) -> None:
        """As in `Background`."""
        super().after_fork()
        self._async_connection = None

    async def flush(self, timeout_s: float = 30.0) -> Counts:
        """As `HubClient.flush`."""
        return await asyncio.to_thread(self._recorder.flush, timeout_s) if self._recorder else Counts()

    async def close(self, timeout_s: float | None = None) -> Counts:
        """As `HubClient.close`."""
        counts = await asyncio.to_thread(self._close_background, timeout_s)
        if self._async_connection is not None:
            await self._async_connection.close()
        return counts

    async def post_events(self, events: Iterable[Mapping[str, Any]], *, module: str | None = None) -> Receipt:
        """As `HubClient.post_events`."""
        return await self.post_body(lines(events), NDJSON, module)

    async def post_arrow(self, rows: Any, *, module: str | None = None) -> Receipt:
        """As `HubClient.post_arrow`."""
        return await self.post_body(arrow_stream(rows), ARROW_STREAM, module)

    async def post_body(self, body: bytes, content_type: str, module: str | None = None) -> Receipt:
        """As `HubClient.post_body`."""
        return receipt(await self._answer(self._hub.events(body, content_type, module)))

    async def post_otlp(self, signal: Signal, body: bytes, *, content_type: str = PROTOBUF) -> bytes:
        """As `HubClient.post_otlp`."""
        return (await self._answer(self._hub.otlp(signal, body, content_type))).content

    async def get(self, path: str, parameters: Parameters = ()) -> Any:
        """As `HubClient.get`."""
        return decoded((await self._answer(self._hub.get(path, parameters))).content)

    async def query(self, kind: str, *, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """As `HubClient.query`."""
        answer = await self._answer(self._hub.query(kind, parameters))
        content: dict[str, Any] = decoded(answer.content, exact=exact)
        return content

    async def timeseries(self, *measures: str, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """As `HubClient.timeseries`."""
        return await self.query("timeseries", exact=exact, measure=list(measures), **parameters)

    async def aggregate(self, *measures: str, exact: bool = True, **parameters: Any) -> dict[str, Any]:
        """As `HubClient.aggregate`."""
        return await self.query("aggregate", exact=exact, measure=list(measures), **parameters)

    async def _answer(self, request: Request) -> Answer:
        if self._async_connection is None:
            self._async_connection = AsyncConnection(
                self.url, self._key, timeout_s=self._timeout_s, transport=self._transport
            )
        attempts = self._attempts(request)
        while True:
            try:
                answer = await self._async_connection.send(request)
            except NoAnswer as error:
                wait_s = attempts.failed(error)
            else:
                if answer.status < 300:
                    return answer
                wait_s = attempts.answered(answer)
            await asyncio.sleep(wait_s)
