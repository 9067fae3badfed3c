"""The first start: the operator organisation, the default tenant, and the one admin key that is told."""

from __future__ import annotations

import secrets

from cluster.clock import Clock, SystemClock
from cluster.errors import NotFound
from cluster.metadata.keys import Entropy, KeyRequest, insert_key
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import insert_operator, operator_tenant
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT

OPERATOR = "operator"


def bootstrap_admin(
    settings: Settings, *, clock: Clock | None = None, entropy: Entropy = secrets.token_bytes
) -> str | None:
    """Make the metadata store; on the very first start also the admin key, whose text is returned only then.

    The caller shows it and keeps it in a file of mode 600. Two starts at once: one gets the key, the other None.
    """
    clock = clock or SystemClock()
    database = open_metadata(settings, clock)
    try:
        with database.writing() as connection:
            if operator_tenant(connection) is not None:
                return None
            insert_operator(connection, DEFAULT_TENANT, organisation_id=OPERATOR, at_us=clock.now_us())
            request = KeyRequest(tenant=DEFAULT_TENANT, scopes=("admin",), name="first admin key")
            return insert_key(connection, request, clock=clock, entropy=entropy)
    finally:
        database.close()


def issue_admin(settings: Settings, *, clock: Clock | None = None, entropy: Entropy = secrets.token_bytes) -> str:
    """Another operator admin key, for whoever lost the first and holds the machine; the others stay valid.

    Raises:
        NotFound: the hub has never been started here.
    """
    clock = clock or SystemClock()
    database = open_metadata(settings, clock)
    try:
        with database.writing() as connection:
            tenant = operator_tenant(connection)
            if tenant is None:
                raise NotFound("this metadata store has no operator yet", hint="Start the hub once: `llmhub up`.")
            request = KeyRequest(tenant=tenant, scopes=("admin",), name="admin key issued on the machine")
            return insert_key(connection, request, clock=clock, entropy=entropy)
    finally:
        database.close()
