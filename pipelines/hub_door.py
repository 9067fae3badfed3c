"""Where a job that speaks to the hub over HTTP finds it, and the key it opens with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from cluster.errors import RequestInvalid
from cluster.sdk.client import HubClient
from cluster.settings import Settings
from cluster.tenancy import TenantId

# Of `--set`.
OPTIONS: Final = ("url", "key")


def client_of(options: Mapping[str, str], settings: Settings, tenant: TenantId | str) -> HubClient:
    """A client for one tenant; see `door_of`."""
    url, key = door_of(options, settings)
    return HubClient(url, key, tenant=tenant)


def door_of(options: Mapping[str, str], settings: Settings) -> tuple[str, str]:
    """URL and key: as told, as the environment says, else of the hub over this data folder.

    Raises:
        RequestInvalid: there is no key.
    """
    url = options.get("url") or os.environ.get("HUB_URL") or f"http://127.0.0.1:{settings.port}"
    return url, _key(options, settings)


def _key(options: Mapping[str, str], settings: Settings) -> str:
    if given := options.get("key") or os.environ.get("HUB_API_KEY"):
        return given
    try:
        return (settings.data / "admin.key").read_text().strip()
    except OSError as error:
        raise RequestInvalid("no API key", hint="Give --set key=KEY or set HUB_API_KEY.") from error
