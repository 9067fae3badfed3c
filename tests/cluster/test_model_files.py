"""A model is read back to the last bit, and not at all once one byte of it, its owner or its key is another."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model_files import FILES, ModelRefused, read_model, signing_key, write_model

NAMES = {"owner": "acme", "kind": "pca", "run_id": "r1"}
ARRAYS = {"weights": np.linspace(0, 1, 50).reshape(5, 10), "names": np.array(["a", "b"])}


def _written(folder: Path) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    key = signing_key(folder.parent)
    write_model(folder, key, NAMES, arrays=ARRAYS, configuration={"step_s": 60})
    return key


def test_a_model_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    key = _written(tmp_path / "model")
    arrays, configuration = read_model(tmp_path / "model", key, NAMES)
    assert configuration == {"step_s": 60}
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in ARRAYS.items()
    }


@given(file=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_altered_bit_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, file: str, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("altered") / "model"
    key = _written(folder)
    content = bytearray((folder / file).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    (folder / file).write_bytes(content)
    with pytest.raises(ModelRefused):
        read_model(folder, key, NAMES)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_refused(tmp_path: Path, file: str) -> None:
    key = _written(tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    with pytest.raises(ModelRefused, match="not there"):
        read_model(tmp_path / "model", key, NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_another_owner_kind_or_run_is_refused(tmp_path: Path, name: str) -> None:
    key = _written(tmp_path / "model")
    with pytest.raises(ModelRefused, match=f"another {name}"):
        read_model(tmp_path / "model", key, {**NAMES, name: "other"})


def test_another_hub_has_another_key(tmp_path: Path) -> None:
    _written(tmp_path / "model")
    with pytest.raises(ModelRefused, match="signature"):
        read_model(tmp_path / "model", signing_key(tmp_path / "other"), NAMES)


def test_only_the_owner_of_the_folder_reads_the_key(tmp_path: Path) -> None:
    assert signing_key(tmp_path) == signing_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "models.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["models.key"]
