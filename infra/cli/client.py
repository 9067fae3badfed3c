"""The hub's HTTP interface as the commands use it: where it is, with which key, and its refusals as errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import httpx2

from cluster.settings import Settings
from infra.cli.failures import CommandFailed
from infra.runtime.layout import HubState, Layout

TIMEOUT_S = 60.0


class HubRefused(CommandFailed):
    """The hub answered with a problem."""

    code = "hub_refused"

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__(f"{detail} ({status} {problem.get('code', '')})".replace(" )", ")"), hint=problem.get("hint"))
        self.status = status


class HubHttp:
    """Requests to one hub with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=TIMEOUT_S)
        self._url = url

    @classmethod
    def of(cls, data: Path | None, *, url: str = "", key: str = "") -> HubHttp:
        """The hub named by the options, the HUB_URL and HUB_API_KEY variables, or the data folder, in that order.

        Raises:
            CommandFailed: no key can be found.
        """
        layout = Layout.over(data)
        if not url:
            state = HubState.load(layout)
            url = os.environ.get("HUB_URL") or (state.url if state else f"http://127.0.0.1:{Settings().port}")
        key = key or os.environ.get("HUB_API_KEY", "")
        if not key:
            try:
                key = layout.admin_key.read_text().strip()
            except OSError as error:
                raise CommandFailed(
                    "no API key", hint=f"Set HUB_API_KEY, or name the hub's folder with --data ({layout.admin_key})."
                ) from error
        return cls(url, key)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer.

        Raises:
            HubRefused: the answer is a problem.
            CommandFailed: no answer.
        """
        response = self.send(method, path, **options)
        return response.json() if response.content else None

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """The whole answer, for those that are not JSON."""
        try:
            response = self._client.request(method, path, **options)
        except httpx2.HTTPError as error:
            raise self._no_answer(error) from error
        if response.status_code >= 400:
            raise HubRefused(response.status_code, _problem(response))
        return response

    def copy(self, method: str, path: str, to: BinaryIO, **options: Any) -> None:
        """Write the answer as it comes, however long it is.

        Raises:
            HubRefused: the answer is a problem.
            CommandFailed: no answer, or only the beginning of one.
        """
        begun = False
        try:
            with self._client.stream(method, path, **options) as response:
                if response.status_code >= 400:
                    response.read()
                    raise HubRefused(response.status_code, _problem(response))
                for part in response.iter_bytes():
                    begun = True
                    to.write(part)
        except httpx2.HTTPError as error:
            if begun:
                raise CommandFailed(
                    f"the answer was cut: {error}", hint="What was written is not all. Ask for less at a time."
                ) from error
            raise self._no_answer(error) from error

    def _no_answer(self, error: httpx2.HTTPError) -> CommandFailed:
        return CommandFailed(f"no answer from {self._url}: {error}", hint="Is it running? `llmhub status`")


def _problem(response: httpx2.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"title": response.reason_phrase}
