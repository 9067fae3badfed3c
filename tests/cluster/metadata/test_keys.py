"""Keys open what they should, for as long as they should, and leave no trace of their secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Conflict, NotFound, RequestInvalid
from cluster.metadata.keys import KEY_PATTERN, SCOPES, ApiKey, KeyRequest
from cluster.tenancy import DEFAULT_TENANT, TenantId
from tests.cluster.metadata.conftest import Store


def made(store: Store, **more: object) -> tuple[ApiKey, str]:
    request = KeyRequest(tenant=DEFAULT_TENANT, scopes=("read",), name="a key", **more)  # type: ignore[arg-type]
    return store.keys.create(request)


def test_a_key_is_found_by_its_text_only(store: Store) -> None:
    key, text = made(store)
    assert KEY_PATTERN.fullmatch(text)
    assert store.keys.find(text) == key
    other = "A" if text[-1] != "A" else "B"
    for wrong in (text[:-1] + other, text + "A", text.upper(), key.key_id, "", "hub__", text.replace("hub_", "")):
        assert store.keys.find(wrong) is None


def test_the_secret_is_nowhere_in_the_store(store: Store) -> None:
    _, text = made(store)
    secret = text.split("_", 2)[2].encode()
    store.database.close()
    files = list(Path(store.settings.data).glob("metadata.db*"))
    assert files
    assert all(secret not in file.read_bytes() for file in files)


@given(text=st.text(max_size=120))
def test_a_form_that_is_no_key_never_matches(text: str) -> None:
    match = KEY_PATTERN.fullmatch(text)
    assert match is None or (len(match[1]), len(match[2])) == (12, 43)


def test_a_key_ends_at_its_expiry_to_the_microsecond(store: Store) -> None:
    _, text = made(store, expires_at_us=store.clock.now_us() + 2_000_000)
    store.clock.advance(1.999999)
    assert store.keys.find(text)
    store.clock.advance(0.000001)
    assert store.keys.find(text) is None


def test_a_revoked_key_opens_nothing_and_keeps_its_first_end(store: Store) -> None:
    key, text = made(store)
    ended = store.keys.revoke(key.key_id, among={DEFAULT_TENANT})
    store.clock.advance(5)
    assert store.keys.find(text) is None
    assert store.keys.revoke(key.key_id, among={DEFAULT_TENANT}).revoked_at_us == ended.revoked_at_us


def test_rotation_leaves_two_live_keys_for_the_grace(store: Store) -> None:
    old, old_text = made(store)
    new, new_text = store.keys.rotate(old.key_id, among={DEFAULT_TENANT}, grace_s=60, created_by="me")
    assert (new.scopes, new.tenant_id, new.name) == (old.scopes, old.tenant_id, old.name)
    assert store.keys.find(old_text) and store.keys.find(new_text)
    store.clock.advance(60)
    assert store.keys.find(old_text) is None
    assert store.keys.find(new_text)


def test_a_key_is_rotated_once_and_never_lives_longer_for_it(store: Store) -> None:
    ends = store.clock.now_us() + 10_000_000
    old, old_text = made(store, expires_at_us=ends)
    new, _ = store.keys.rotate(old.key_id, among={DEFAULT_TENANT}, grace_s=3600, created_by="me")
    found = store.keys.find(old_text)
    assert found and found.expires_at_us == ends
    assert new.expires_at_us == ends
    with pytest.raises(Conflict):
        store.keys.rotate(old.key_id, among={DEFAULT_TENANT}, grace_s=0, created_by="me")
    with pytest.raises(RequestInvalid):
        store.keys.rotate(new.key_id, among={DEFAULT_TENANT}, grace_s=-1, created_by="me")


def test_another_tenants_key_does_not_exist(store: Store) -> None:
    key, text = made(store)
    with pytest.raises(NotFound):
        store.keys.revoke(key.key_id, among={TenantId("other")})
    with pytest.raises(NotFound):
        store.keys.rotate(key.key_id, among={TenantId("other")}, grace_s=0, created_by="me")
    assert store.keys.list_of({TenantId("other")}) == []
    assert store.keys.find(text)


@pytest.mark.parametrize("scopes", [(), ("everything",), ("read", "root")])
def test_unknown_scopes_are_refused(store: Store, scopes: tuple[str, ...]) -> None:
    with pytest.raises(RequestInvalid):
        store.keys.create(KeyRequest(tenant=DEFAULT_TENANT, scopes=scopes, name="x"))


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "x" * 201])
def test_names_that_could_forge_a_line_are_refused(store: Store, name: str) -> None:
    with pytest.raises(RequestInvalid):
        store.keys.create(KeyRequest(tenant=DEFAULT_TENANT, scopes=SCOPES, name=name))


def test_a_key_of_a_tenant_or_project_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(RequestInvalid):
        store.keys.create(KeyRequest(tenant=TenantId("nobody"), scopes=("read",), name="x"))
    with pytest.raises(RequestInvalid):
        made(store, project_id="nothing")
    store.tenants.create_project(DEFAULT_TENANT, "search")
    key, _ = made(store, project_id="search")
    assert key.project_id == "search"
    with pytest.raises(RequestInvalid):
        store.keys.create(KeyRequest(tenant=DEFAULT_TENANT, scopes=("admin",), name="x", project_id="search"))


def test_last_used_never_goes_back(store: Store) -> None:
    key, text = made(store)
    store.keys.touch({key.key_id: 50, "unknown": 1})
    store.keys.touch({key.key_id: 40})
    found = store.keys.find(text)
    assert found and found.last_used_at_us == 50
