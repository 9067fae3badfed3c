"""Verdicts on anomalies are kept with what drove them; of the same anomaly the later word counts."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from cluster.clock import ManualClock
from cluster.metadata.engine import Database
from cluster.metadata.feedback import FeedbackStore, Verdict
from cluster.metadata.schema import MIGRATIONS
from cluster.tenancy import DEFAULT_TENANT, TenantId
from tests.cluster.metadata.conftest import Store

DRIVERS = ({"feature": "error_share", "share": 0.8, "value": 0.5, "usual": 0.01, "direction": "up"},)
KEY = ("default", "pca", "service=chat")


def verdict(name: str, *, is_true: bool) -> Verdict:
    return Verdict(name, "pca", "service=chat", is_true=is_true, score=7.0, comment="", told_by="k", drivers=DRIVERS)


def test_a_verdict_comes_back_as_it_was_told(store: Store) -> None:
    feedback = FeedbackStore(store.database, store.clock)
    tenant = TenantId(DEFAULT_TENANT)
    feedback.record(tenant, verdict("a1", is_true=False))
    assert feedback.by_threshold() == {KEY: [verdict("a1", is_true=False)]}
    store.clock.advance(1.0)
    feedback.record(tenant, verdict("a2", is_true=False))
    feedback.record(tenant, verdict("a1", is_true=True))
    assert {one.anomaly_id: one.is_true for one in feedback.by_threshold()[KEY]} == {"a1": True, "a2": False}
    assert feedback.labels(tenant) == {"a1": True, "a2": False}


def test_verdicts_from_before_drivers_were_kept_are_still_there(tmp_path: Path) -> None:
    clock, database = ManualClock(), Database(f"sqlite:///{tmp_path / 'm.db'}")
    database.migrate(MIGRATIONS[:7], clock)
    with database.writing() as connection:
        for row in (
            "organisations VALUES ('o', 'o', 0, 1)",
            "tenants (tenant_id, organisation_id, name, created_at_us) VALUES ('default', 'o', 'd', 1)",
            "anomaly_feedback VALUES ('default', 'a1', 'pca', 'service=chat', 0, 7.0, '', 'k', 1)",
        ):
            connection.execute(text(f"INSERT INTO {row}"))
    assert database.migrate(MIGRATIONS, clock) == len(MIGRATIONS) - 7
    [kept] = FeedbackStore(database, clock).by_threshold()[KEY]
    assert (kept.anomaly_id, kept.is_true, kept.score, kept.drivers) == ("a1", False, 7.0, None)
    database.close()
