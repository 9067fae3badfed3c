"""The way of a correction from a job to the committer's own process, and of what it refuses back."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from actors.corrections import Correction, CorrectionStale
from actors.hosts import RemoteCommits, committer_name
from actors.intake import Buffer, Counts, Seal
from actors.pool import CommitterActor
from actors.sealer import stage_buffer
from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.prices import read_price
from cluster.settings import Settings
from models.pricing.book import PriceBook
from pipelines.reconcile import reconcile
from pipelines.reprice import Repricing
from tests.actors.batches import events

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ray.util.annotations.RayDeprecationWarning"),
]


def test_a_job_corrects_through_the_committers_process(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, region="reprice", namespace="reprice", commit_linger_s=0.0)
    actor = CommitterActor.options(name=committer_name(settings.region), namespace=settings.namespace).remote(settings)
    tables = RemoteCommits(settings)
    batch = events(["a", "b"], provider="p", input_tokens=1_000_000, output_tokens=0)
    counted = EVENT_SCHEMA.get_field_index("counted")
    batch = batch.set_column(counted, EVENT_SCHEMA.field(counted), pa.array([127, 127], pa.int16()))
    epoch = tables.register(0, "journal").epoch
    buffer = Buffer(1, events={"default": [batch]}, totals={"default": Counts(accepted=2)})
    files = stage_buffer(settings.lake, buffer)
    assert tables.commit(Seal(0, epoch, "journal", 1, files, {"default": 2})) == 1

    told = {"provider": "p", "model": "m-1", "input_usd_per_mtok": 2, "output_usd_per_mtok": 1}
    book = PriceBook([("", read_price(told, from_us=0))])
    report = Repricing(settings.lake, tables, book).run(None, ("1970-01-01", "9999-12-31"))
    assert (report["rows_changed"], report["difference_usd"]) == (2, "4.000000000")
    found = reconcile(settings.lake)
    assert (found["faults"], Decimal(found["events_usd"])) == ([], Decimal(4))
    [note] = tables.notes()
    tables.forget(note["identity"])
    assert tables.notes() == []
    with pytest.raises(CorrectionStale):
        tables.correct(Correction("c-1", ("tenant_id=default/event_date=x/gone.parquet",), ()))
    ray.kill(actor)
