"""MLflow's webhooks -> registry events, and `gateway.budget` for a budget that is spent.

Source: https://mlflow.org/docs/latest/ml/webhooks. A delivery is one object of entity, action, timestamp and data; the
delivery's id is the same in each of its retries. The item is kept whole in `payload`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from cluster.contract.rows import DecodeContext, Decoded, RowRefused
from cluster.contract.sources.hooks.items import (
    Fields,
    HookRows,
    document,
    fields_of,
    first_text,
    items_of,
    mapping_of,
    text_of,
)
from cluster.errors import Unauthenticated

SIGNATURE_HEADER: Final = "x-mlflow-signature"
TIMESTAMP_HEADER: Final = "x-mlflow-timestamp"
DELIVERY_HEADER: Final = "x-mlflow-delivery-id"
# A signature older than this is a recording played again; MLflow's own page names five minutes.
SIGNED_WITHIN_S: Final = 300

# (entity, action) -> kind.
KINDS: Final = {
    ("registered_model", "created"): "registry.asset.registered",
    ("model_version", "created"): "registry.version.published",
    ("model_version_tag", "set"): "registry.asset.updated",
    ("model_version_tag", "deleted"): "registry.asset.updated",
    ("model_version_alias", "created"): "registry.version.alias_moved",
    ("model_version_alias", "deleted"): "registry.version.alias_moved",
    ("prompt", "created"): "registry.asset.registered",
    ("prompt_version", "created"): "registry.version.published",
    ("prompt_tag", "set"): "registry.asset.updated",
    ("prompt_tag", "deleted"): "registry.asset.updated",
    ("prompt_version_tag", "set"): "registry.asset.updated",
    ("prompt_version_tag", "deleted"): "registry.asset.updated",
    ("prompt_alias", "created"): "registry.version.alias_moved",
    ("prompt_alias", "deleted"): "registry.version.alias_moved",
    ("budget_policy", "exceeded"): "gateway.budget",
}
# Type of an asset -> how the names of its entities begin.
_ASSETS: Final = {"prompt": ("prompt",), "model": ("registered_model", "model_version")}
_KEPT: Final = ("version", "alias", "key", "value", "source", "run_id", "budget_policy_id", "target_scope")


def decode_mlflow(body: bytes, headers: Mapping[str, str], context: DecodeContext) -> Decoded:
    """Events of one delivery, or of an array of them; raises as `items_of` does.

    Args:
        headers: of the request, names in lower case.
    """
    items = items_of(body, headers, "events", context)
    delivery_id = headers.get(DELIVERY_HEADER)
    rows = HookRows(items, context)
    for index, item in enumerate(items):
        try:
            row = _row(fields_of(item, context))
        except RowRefused as refusal:
            rows.refuse(index, refusal.code, refusal.message)
            continue
        if delivery_id:
            row["event_id"] = f"mlflow:{delivery_id}:{index}"
        rows.add(index, row | {"payload": item.decode()})
    return rows.seal()


def _row(fields: Fields) -> Fields:
    entity, action = text_of(fields.get("entity")), text_of(fields.get("action"))
    if entity is None or action is None:
        raise RowRefused("hook_unknown", "no `entity` and `action`; send MLflow's webhook as it is")
    data = mapping_of(fields.get("data"))
    # An entity of a later MLflow is a registry event under its own name.
    kind = KINDS.get((entity, action), f"registry.{entity}.{action}")
    name = text_of(data.get("name"))
    assets = [asset for asset, words in _ASSETS.items() if entity.startswith(words)]
    return {
        "module": kind.split(".", 1)[0],
        "kind": kind,
        "occurred_at": fields.get("timestamp"),
        "model": name if assets == ["model"] else None,
        "status": "ok",
        "attributes": document(
            {"entity": entity, "action": action, "asset_type": first_text(*assets), "name": name}
            | {key: data.get(key) for key in _KEPT}
            | {"workspace": fields.get("workspace")}
        ),
    }


def check_signature(body: bytes, headers: Mapping[str, str], *, secret: str, now_s: float) -> None:
    """Whether MLflow signed the body with the secret, lately.

    Args:
        body: as sent, before any Content-Encoding is undone.
        headers: of the request, names in lower case.

    Raises:
        Unauthenticated: not signed, not with this secret, or too long ago.
    """
    sent, delivery, stamp = (headers.get(name, "") for name in (SIGNATURE_HEADER, DELIVERY_HEADER, TIMESTAMP_HEADER))
    version, _, text = sent.partition(",")
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    signed = f"{delivery}.{stamp}.".encode() + body
    expected = hmac.digest(secret.encode(), signed, hashlib.sha256)
    if version != "v1" or not hmac.compare_digest(signature, expected):
        raise Unauthenticated("the webhook is not signed with the secret of HUB_MLFLOW_WEBHOOK_SECRET")
    if not stamp.isdecimal() or len(stamp) > 12 or abs(now_s - int(stamp)) > SIGNED_WITHIN_S:
        raise Unauthenticated(f"the webhook was signed over {SIGNED_WITHIN_S} s ago")
