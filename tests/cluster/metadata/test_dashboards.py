"""Kept boards: rights, versions that never overwrite each other, and links that end with whatever they stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.errors import Conflict, Forbidden, HubError, NotFound, VersionChanged
from cluster.metadata import dashboards as limits
from cluster.metadata.dashboard_links import Link, LinkStore
from cluster.metadata.dashboards import Asker, DashboardStore, Right
from cluster.metadata.keys import KeyRequest
from cluster.tenancy import TenantId
from tests.cluster.metadata.conftest import Store

A, B, C = TenantId("acme-a"), TenantId("acme-b"), TenantId("globex")


@pytest.fixture
def boards(store: Store) -> Iterator[DashboardStore]:
    for organisation, tenants in (("acme", (A, B)), ("globex", (C,))):
        store.tenants.create_organisation(organisation)
        for tenant in tenants:
            store.tenants.create(tenant, organisation_id=organisation)
    yield DashboardStore(store.database, store.clock)


def asker(store: Store, tenant: TenantId = A, *, is_admin: bool = False) -> Asker:
    request = KeyRequest(tenant=tenant, scopes=("read",), name="x")
    key, _ = store.keys.create(request)
    return Asker(key_id=key.key_id, tenant=tenant, organisation_id=key.organisation_id, is_admin=is_admin)


def rights(store: Store, boards: DashboardStore, board: str) -> dict[str, Right]:
    """What each sort of other key may do with a board of A."""
    others = {
        "mate": asker(store),
        "admin": asker(store, is_admin=True),
        "sister": asker(store, B),
        "sister_admin": asker(store, B, is_admin=True),
        "stranger": asker(store, C, is_admin=True),
    }
    found = {}
    for name, other in others.items():
        listed = {one.dashboard_id: one.right for one in boards.list_for(other)}
        found[name] = listed.get(board, Right.NONE)
        if found[name] == Right.NONE:
            with pytest.raises(NotFound):
                boards.find(other, board)
        else:
            assert boards.find(other, board)[0].right == found[name]
    return found


@pytest.mark.parametrize("tenant", [Right.NONE, Right.VIEW, Right.EDIT])
@pytest.mark.parametrize("organisation", [Right.NONE, Right.VIEW, Right.EDIT])
def test_the_matrix_of_rights(store: Store, boards: DashboardStore, tenant: Right, organisation: Right) -> None:
    owner = asker(store)
    board = boards.create(owner, "t", "{}").dashboard_id
    shared = boards.share(owner, board, tenant=tenant, organisation=organisation)
    assert (shared.right, shared.tenant_right, shared.organisation_right) == (Right.OWN, tenant, organisation)
    assert rights(store, boards, board) == {
        "mate": max(tenant, organisation),
        "admin": Right.OWN,
        "sister": organisation,
        "sister_admin": organisation,
        "stranger": Right.NONE,
    }


@pytest.mark.parametrize("right", [Right.NONE, Right.VIEW, Right.EDIT])
def test_each_act_needs_its_right(store: Store, boards: DashboardStore, right: Right) -> None:
    owner, mate = asker(store), asker(store)
    links = LinkStore(store.database, store.clock)
    board = boards.create(owner, "t", "{}").dashboard_id
    boards.share(owner, board, tenant=right, organisation=Right.NONE)
    link = links.create(owner, board, version=1, filters=(), live_s=60)
    acts = (
        (Right.VIEW, lambda: boards.find(mate, board)),
        (Right.VIEW, lambda: boards.versions(mate, board)),
        (Right.EDIT, lambda: boards.save(mate, board, "{}", title="t", held=1)),
        (Right.OWN, lambda: boards.share(mate, board, tenant=Right.EDIT, organisation=Right.EDIT)),
        (Right.OWN, lambda: links.create(mate, board, version=1, filters=(), live_s=60)),
        (Right.OWN, lambda: links.list_of(mate, board)),
        (Right.OWN, lambda: links.revoke(mate, board, link.link_id)),
        (Right.OWN, lambda: boards.delete(mate, board)),
    )
    for needed, act in acts:
        if right >= needed:
            act()
        else:
            with pytest.raises(NotFound if right == Right.NONE else Forbidden):
                act()
    assert links.opened(link.link_id) is not None


def test_a_rotated_key_keeps_its_boards(store: Store, boards: DashboardStore) -> None:
    first = asker(store)
    board = boards.create(first, "t", "{}").dashboard_id
    key_id = first.key_id
    for _ in range(3):
        key_id = store.keys.rotate(key_id, among={A}, grace_s=0, created_by="x")[0].key_id
    heir = Asker(key_id=key_id, tenant=A, organisation_id="acme", is_admin=False)
    assert boards.find(heir, board)[0].right == Right.OWN


def test_a_change_to_a_version_that_is_gone_is_refused_and_nothing_is_lost(
    store: Store, boards: DashboardStore
) -> None:
    owner = asker(store)
    board = boards.create(owner, "one", '{"n":1}').dashboard_id
    assert boards.save(owner, board, '{"n":2}', title="two", held=1).version == 2
    with pytest.raises(VersionChanged):
        boards.save(owner, board, '{"n":"lost"}', title="lost", held=1)
    found, text = boards.find(owner, board)
    assert (found.version, found.title, text) == (2, "two", '{"n":2}')
    assert boards.find(owner, board, 1)[1] == '{"n":1}'
    assert [one.version for one in boards.versions(owner, board)] == [2, 1]


def test_versions_and_boards_have_their_most(
    store: Store, boards: DashboardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "VERSIONS_MAX", 3)
    monkeypatch.setattr(limits, "DASHBOARDS_PER_TENANT_MAX", 2)
    owner = asker(store)
    links = LinkStore(store.database, store.clock)
    board = boards.create(owner, "t", "{}").dashboard_id
    shown = links.create(owner, board, version=1, filters=(), live_s=60)
    for held in range(1, 6):
        boards.save(owner, board, "{}", title="t", held=held)
    # The first is shown by a live link.
    assert [one.version for one in boards.versions(owner, board)] == [6, 5, 4, 1]
    links.revoke(owner, board, shown.link_id)
    boards.save(owner, board, "{}", title="t", held=6)
    assert [one.version for one in boards.versions(owner, board)] == [7, 6, 5]
    with pytest.raises(NotFound):
        boards.find(owner, board, 1)
    boards.create(owner, "t", "{}")
    with pytest.raises(Conflict):
        boards.create(owner, "t", "{}")
    boards.delete(owner, board)
    with pytest.raises(NotFound):
        boards.find(owner, board)
    boards.create(owner, "t", "{}")


def linked(store: Store, boards: DashboardStore) -> tuple[LinkStore, Asker, Link]:
    owner = asker(store)
    links = LinkStore(store.database, store.clock)
    board = boards.create(owner, "t", '{"n":1}').dashboard_id
    return links, owner, links.create(owner, board, version=1, filters=("model:eq:a",), live_s=60)


def test_a_link_shows_the_state_it_was_made_for(store: Store, boards: DashboardStore) -> None:
    links, owner, link = linked(store, boards)
    boards.save(owner, link.dashboard_id, '{"n":2}', title="t", held=1)
    assert links.opened(link.link_id) == (link, '{"n":1}')
    assert links.list_of(owner, link.dashboard_id) == [link]
    with pytest.raises(NotFound):
        links.create(owner, link.dashboard_id, version=9, filters=(), live_s=60)


@pytest.mark.parametrize("end", ["time", "revoked", "board deleted", "key revoked", "key expired"])
def test_a_link_ends_with_whatever_it_stands_on(store: Store, boards: DashboardStore, end: str) -> None:
    links, owner, link = linked(store, boards)
    if end == "time":
        store.clock.advance(60)
    elif end == "revoked":
        assert links.revoke(owner, link.dashboard_id, link.link_id).revoked_at_us == store.clock.now_us()
    elif end == "board deleted":
        boards.delete(owner, link.dashboard_id)
    elif end == "key revoked":
        store.keys.revoke(owner.key_id, among={A})
    else:
        heir, _ = store.keys.rotate(owner.key_id, among={A}, grace_s=10, created_by="x")
        store.clock.advance(20)
        # A rotated key's links go on for its successor, until that ends.
        assert links.opened(link.link_id) is not None
        store.keys.revoke(heir.key_id, among={A})
    assert links.opened(link.link_id) is None
    assert links.opened("nothing") is None


def test_every_process_signs_with_one_key(store: Store, boards: DashboardStore) -> None:
    keys = {LinkStore(store.database, store.clock).signing_key() for _ in range(3)}
    assert len(keys) == 1 and len(keys.pop()) == 32


def test_another_boards_link_is_not_there(store: Store, boards: DashboardStore) -> None:
    links, owner, link = linked(store, boards)
    other = boards.create(owner, "t", "{}").dashboard_id
    with pytest.raises(HubError):
        links.revoke(owner, other, link.link_id)
    assert links.opened(link.link_id) is not None
