"""The products whose hooks the hub takes, and what reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources.hooks.langfuse import decode_langfuse
from cluster.contract.sources.hooks.litellm import decode_litellm
from cluster.contract.sources.hooks.mlflow import decode_mlflow

# Product -> decoder of (body, headers of the request with names in lower case, context).
DECODE_HOOK: Final[dict[str, Callable[[bytes, Mapping[str, str], DecodeContext], Decoded]]] = {
    "litellm": decode_litellm,
    "mlflow": decode_mlflow,
    "langfuse": decode_langfuse,
}
