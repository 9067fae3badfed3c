"""The hardening of HAProxy's configuration, as a pure function of the text that Ray Serve generates.

Serve's template leaves statistics open on every interface, the admin socket writable by all, no header timeout, lets
clients send headers that Serve obeys or fails on, and answers 404 and 500 where a client must hear "try again". Each
rule below is one edit. A rule that finds nothing to edit means that the template has changed: then nothing starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

MARK = "# hardened by the hub"
# Every answer of the hub's ingress carries this header; an answer without it was made by the machinery around it.
ANSWER_HEADER = "x-hub"
RETRY_AFTER_S = 1

# Headers that Serve itself interprets. Bytes that are not UTF-8 in the first five make it answer 500, and a timeout of
# 0 switches its own off. None of them is for clients of the hub.
_CONTROL_HEADERS = (
    "^x[-_]request[-_]timeout[-_]seconds$",
    "^x[-_]request[-_]disconnect[-_]disabled$",
    "^x[-_]session[-_]id$",
    "^serve[-_]multiplexed[-_]model[-_]id$",
    "^x[-_]serve[-_]",
    # The edge is the first hop: whatever a client says about earlier ones is hearsay.
    "^x[-_]forwarded[-_]",
    "^forwarded$",
    f"^{ANSWER_HEADER}$",
)
_REQUEST_ID = "^[A-Za-z0-9._:-]{1,64}$"


class TemplateChanged(Exception):
    """A rule found nothing to edit, or is missing from the result: Serve's template is not the one known here."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the edge enforces before a request reaches Python."""

    body_bytes_max: int
    # Address the two doors listen on.
    host: str = "127.0.0.1"
    # Time for a client to send its request headers; a slow one is cut off with 408.
    header_s: int = 10
    # Time without a byte from the client while a body is read.
    idle_s: int = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """One edit: every match of `pattern` is replaced; `proof` must stand in the result."""

    name: str
    pattern: str
    replacement: str
    proof: str
    # Parts of the template that only appear with a feature on; absent together with this text is no change.
    only_if: str = ""


def harden(config: str, limits: Limits, *, error_file: str) -> str:
    """The configuration with every rule applied; unchanged when it is already hardened.

    Args:
        config: what Ray Serve wrote.
        error_file: path of the file with `problem_response()`, for answers HAProxy makes itself.

    Raises:
        TemplateChanged: a rule does not apply, so the result would be weaker than promised.
    """
    if config.startswith(MARK):
        return config
    text = config
    for rule in _rules(limits, error_file):
        if rule.only_if and rule.only_if not in config:
            continue
        text, count = re.subn(rule.pattern, lambda match, r=rule: match.expand(r.replacement), text, flags=re.M)  # type: ignore[misc]
        if count == 0:
            raise TemplateChanged(f"rule {rule.name!r} found nothing to edit")
        if rule.proof not in text:
            raise TemplateChanged(f"rule {rule.name!r} is not in the result")
    _refuse_leftovers(text, limits)
    return f"{MARK}\n{text}"


def _rules(limits: Limits, error_file: str) -> Sequence[Rule]:
    front = _indent(_request_rules(limits))
    answers = _indent(_answer_rules())
    host = f"[{limits.host}]" if ":" in limits.host else limits.host
    known = "Path '%[path]' not found"
    return (
        Rule("metrics port", r"^(\s*)bind :(\d+)$", r"\1bind 127.0.0.1:\2", "bind 127.0.0.1:"),
        Rule("statistics port", r"^(\s*)bind \*:(\d+)(\n\s*stats enable)", r"\1bind 127.0.0.1:\2\3", "stats enable"),
        Rule("admin socket", r"mode 666 level admin", "mode 600 level admin", "mode 600 level admin"),
        Rule(
            "timeouts",
            r"^(\s*)timeout client \d+s$",
            rf"\1timeout client {limits.idle_s}s\n\1timeout http-request {limits.header_s}s",
            f"timeout http-request {limits.header_s}s",
        ),
        Rule(
            "own errors",
            r"^(\s*)errorfile 502 \S+\n\s*errorfile 503 \S+\n\s*errorfile 504 \S+$",
            "\n".join(rf"\1errorfile {status} {error_file}" for status in (500, 502, 503, 504)),
            f"errorfile 503 {error_file}",
        ),
        Rule(
            "no route yet",
            rf'^(\s*)http-request return status 404 .*"{_escaped(known)}.*$',
            r"\1" + _escaped_replacement(_return_problem("http-request")),
            _return_problem("http-request"),
        ),
        Rule(
            "requests",
            r"^(frontend http_frontend\n\s*bind )\S+(:\d+)$",
            rf"\g<1>{host}\2\n" + _escaped_replacement(front),
            front,
        ),
        Rule(
            "requests over gRPC",
            r"^(frontend grpc_frontend\n(?:\s*#.*\n)*\s*bind )\S+(:\d+ proto h2)$",
            rf"\g<1>{host}\2\n" + _escaped_replacement(front),
            front,
            only_if="frontend grpc_frontend",
        ),
        Rule(
            "answers",
            r"^(backend http-\S+\n\s*log global)$",
            r"\1\n" + _escaped_replacement(answers),
            answers,
            only_if="option httpchk",
        ),
    )


def _request_rules(limits: Limits) -> list[str]:
    too_large = _problem(413, "Content Too Large", "body_too_large", "The body is larger than the hub takes.")
    return [
        *(f"http-request del-header {name} -m reg" for name in _CONTROL_HEADERS),
        f"http-request del-header x-request-id unless {{ req.hdr(x-request-id) -m reg {_REQUEST_ID} }}",
        "http-request del-header x_request_id",
        "http-request deny deny_status 405 if { method TRACE CONNECT }",
        f"http-request return status 413 content-type application/problem+json string {_quoted(too_large)}"
        f" if {{ req.body_size gt {limits.body_bytes_max} }}",
    ]


def _answer_rules() -> list[str]:
    unmarked = f"!{{ res.hdr({ANSWER_HEADER}) -m found }}"
    return [
        # 404 from a proxy that has no routes yet, 500 from one that lost its replica: both pass, so say so.
        f"{_return_problem('http-response')} if {{ status 404 500 502 503 504 }} {unmarked}",
        f"http-response set-header Retry-After {RETRY_AFTER_S}"
        " if { status 429 503 } !{ res.hdr(retry-after) -m found }",
        "http-response del-header server",
    ]


def _return_problem(action: str) -> str:
    body = _problem(503, "Service Unavailable", "unavailable", "A part of the hub is starting; send it again.")
    return (
        f"{action} return status 503 content-type application/problem+json"
        f" hdr Retry-After {RETRY_AFTER_S} string {_quoted(body)}"
    )


def problem_response() -> str:
    """The whole HTTP message HAProxy sends when it has no server to ask."""
    body = _problem(503, "Service Unavailable", "unavailable", "A part of the hub is starting; send it again.")
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/problem+json",
        "Cache-Control: no-store",
        f"Retry-After: {RETRY_AFTER_S}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines) + "\r\n\r\n" + body


def _problem(status: int, title: str, code: str, detail: str) -> str:
    hint = "Send the same request again after the time in Retry-After." if status == 503 else ""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, "hint": hint}
    return json.dumps(content, separators=(",", ":"))


def _refuse_leftovers(text: str, limits: Limits) -> None:
    """What may not stand in the result, wherever a new template might put it."""
    doors = {
        match[1] for match in re.finditer(r"^frontend (?:http|grpc)_frontend\n(?:\s*#.*\n)*(\s*bind .*)$", text, re.M)
    }
    for match in re.finditer(r"^\s*bind (\S+).*$", text, re.M):
        if not match[1].startswith("127.0.0.1:") and match[0].strip("\n") not in doors:
            raise TemplateChanged(f"the result listens on {match[1]}, which is not a door")
    for socket in re.finditer(r"stats socket .*$", text, re.M):
        if " mode 600 " not in socket[0]:
            raise TemplateChanged("the admin socket is open to others")
    if re.search(r"errorfile .*500\.http", text):
        raise TemplateChanged("an error of the edge still reads 500")
    if text.count("option httpchk") != text.count("http-response set-header Retry-After"):
        raise TemplateChanged("a backend's answers are not looked at")
    if text.count("frontend grpc_frontend") + 1 != text.count("http-request del-header ^x[-_]serve[-_]"):
        raise TemplateChanged("a door does not strip Serve's own headers")


def _indent(lines: Sequence[str]) -> str:
    return "\n".join("    " + line for line in lines)


def _quoted(text: str) -> str:
    """As one double-quoted word of HAProxy's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    # In the template the quotes inside the string are written with a backslash in some versions.
    return re.escape(text).replace("'", r"\\?'")


def _escaped_replacement(text: str) -> str:
    return text.replace("\\", r"\\")
