"""A local server that speaks OpenAI's chat-completions protocol, with usage that has cached and reasoning tokens."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "o4-mini-2025-04-16"
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 345,
    "total_tokens": 1545,
    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


class _Completions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        if self.path != "/v1/chat/completions":
            self._answer(404, {"error": {"message": f"no {self.path} here", "type": "invalid_request_error"}})
            return
        if request.get("model") == "overloaded":
            self._answer(
                429, {"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}
            )
            return
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "Forty-two.", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
        completion = {
            # The hub knows a call by this id: the same one twice would be one call.
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": 1_764_000_000,
            "model": MODEL,
            "choices": [choice],
            "usage": USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_test",
        }
        self._answer(200, completion)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the test says what went wrong."""


@contextmanager
def fake_openai() -> Iterator[str]:
    """The base URL for an OpenAI client, as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Completions)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
