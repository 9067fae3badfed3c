"""Files written whole or not at all, by one writer or by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.lake.files import replace


def test_two_writers_at_once_never_publish_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "positions.json"
    contents = [bytes([number]) * 50_000 for number in range(2)]

    def write(content: bytes) -> None:
        for _ in range(50):
            replace(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, contents))
    assert [entry.name for entry in tmp_path.iterdir()] == ["positions.json"]
