"""OTLP over gRPC: the `Export` of the three services, whatever carries the call."""

from __future__ import annotations

from typing import Any

import grpc
import structlog
from google.protobuf.message import Message  # type: ignore[import-untyped]

from cluster.errors import HubError
from serving.auth.authorise import Authorise
from serving.auth.roles import Permission
from serving.otlp_answers import Signal, export_response, refuse, signal_of
from serving.outages import translated
from serving.problem import unwrapped
from serving.reception import Reception


class OtlpExport:
    """Answers OTLP/gRPC calls; the key travels in the metadata, as `authorization` or `x-api-key`."""

    def __init__(self, authorise: Authorise, reception: Reception) -> None:
        self._authorise = authorise
        self._reception = reception
        self._log = structlog.get_logger("otlp")

    async def export(self, message: Message, context: Any) -> Message:
        """Take the rows of one request in.

        Never raises: an error is set on the context, for a raised one would lose its details on the way.
        """
        signal = signal_of(message)
        if signal is None:
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details("the hub serves the OTLP trace, logs and metrics services")
            return message
        try:
            return await self._export(signal, message, context)
        except HubError as error:
            refuse(context, unwrapped(error))
        except Exception as error:
            # Raised further, it would reach the sender with its stack trace.
            self._log.error("export_failed", signal=signal.name, exc_info=error)
            refuse(context, translated(error) or HubError(""))
        empty: Message = signal.response()
        return empty

    async def _export(self, signal: Signal, message: Message, context: Any) -> Message:
        headers = [(name, value) for name, value in context.invocation_metadata() if isinstance(value, str)]
        principal = await self._authorise.by_headers(headers, Permission.INGEST)
        receipt = await self._reception.otlp_message(principal, message, signal=signal.name)
        return export_response(signal, receipt)
