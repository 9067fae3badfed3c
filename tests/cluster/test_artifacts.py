"""Models through a real MLflow store: champions change and come back, and a stranger's or altered one is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import CHALLENGER, CHAMPION, SHARED, ModelStore, Record

from cluster.errors import Conflict, NotFound
from cluster.model_files import ModelRefused
from cluster.tenancy import TenantId, TenantScope

pytestmark = pytest.mark.filterwarnings("ignore")

ACME = TenantScope.of(TenantId("acme"))
GLOBEX = TenantScope.of(TenantId("globex"))
RECORD = Record({"seed": "1"}, {"loss": [3.0, 2.0], "recall": 0.9}, {"trained_to": "2026-01-01"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("store")
    return ModelStore(f"sqlite:///{folder}/mlflow.db", folder / "hub", artifacts=str(folder / "artifacts"))


def _registered(store: ModelStore, owner: str, kind: str, value: float) -> int:
    return store.register(owner, kind, RECORD, arrays={"w": np.full(3, value)}, configuration={"value": value})


def test_a_rollback_brings_the_same_bits_back(store: ModelStore) -> None:
    first, second = (_registered(store, "acme", "rolled", value) for value in (1 / 3, 2 / 3))
    assert store.version_of("acme", "rolled", CHALLENGER) == second
    store.promote("acme", "rolled", first)
    before = store.load(ACME, "rolled", owner="acme", version=first)
    store.promote("acme", "rolled", second)
    assert store.version_of("acme", "rolled", CHALLENGER) is None
    assert store.roll_back("acme", "rolled") == first
    assert store.version_of("acme", "rolled", CHAMPION) == first
    after = store.load(ACME, "rolled", owner="acme", version=first)
    assert after.arrays["w"].tobytes() == before.arrays["w"].tobytes()
    assert after.configuration == {"value": 1 / 3}
    with pytest.raises(Conflict):
        store.roll_back("acme", "rolled")


def test_only_own_and_shared_models_are_there(store: ModelStore) -> None:
    mine, shared = _registered(store, "acme", "seen", 1.0), _registered(store, SHARED, "seen", 2.0)
    assert store.load(GLOBEX, "seen", owner=SHARED, version=shared).configuration == {"value": 2.0}
    with pytest.raises(NotFound):
        store.load(GLOBEX, "seen", owner="acme", version=mine)
    seen = [one for one in store.versions(ACME) if one.kind == "seen"]
    assert [(one.owner, one.aliases) for one in seen] == [(SHARED, (CHALLENGER,)), ("acme", (CHALLENGER,))]
    assert seen[0].metrics == {"loss": 2.0, "recall": 0.9}
    assert {one.owner for one in store.versions(GLOBEX)} == {SHARED}


def test_a_model_altered_in_the_store_is_refused(store: ModelStore, tmp_path: Path) -> None:
    version = _registered(store, "acme", "altered", 1.0)
    [run] = [one.run_id for one in store.versions(ACME) if one.kind == "altered"]
    [path] = Path(store.artifacts or "").glob(f"{run}/**/arrays.npz")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(ModelRefused, match="altered"):
            store.load(ACME, "altered", owner="acme", version=version)
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.load(ACME, "altered", owner="acme", version=version).configuration == {"value": 1.0}


def test_what_is_not_there_is_told(store: ModelStore) -> None:
    assert store.version_of("acme", "absent", CHAMPION) is None
    with pytest.raises(NotFound):
        store.load(ACME, "absent", owner="acme", version=1)
    with pytest.raises(NotFound):
        store.roll_back("acme", "absent")
