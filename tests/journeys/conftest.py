"""The running hub that journeys share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.journeys.local_hub import LocalHub, local_hub


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """One hub for all journeys that only send and ask."""
    with local_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running
