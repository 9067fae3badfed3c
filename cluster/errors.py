"""The HubError family: every refusal has a stable code, a message and a hint that says what to do instead."""

from __future__ import annotations


class HubError(Exception):
    """Anything the hub refuses or fails at, in words a caller can act on.

    Attributes:
        code: stable snake_case identifier; clients branch on it, so it never changes meaning.
        hint: what to do instead; empty only where nothing can be done.
    """

    code = "internal"
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross actor borders; the default reduce would drop the keyword arguments.
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(kind: type[HubError], message: str, state: dict[str, object]) -> HubError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class SettingsInvalid(HubError):
    """A HUB_* variable is unknown or out of range."""

    code = "settings_invalid"


class BodyUnreadable(HubError):
    """The request body as a whole cannot be read: not the format it claims, or cut off."""

    code = "body_unreadable"


class BodyTooLarge(HubError):
    """The body, or what it inflates to, is over the limit."""

    code = "body_too_large"


class MediaTypeUnsupported(HubError):
    """No decoder for this Content-Type or Content-Encoding."""

    code = "media_type_unsupported"


class Unauthenticated(HubError):
    """No key, or one the hub does not know."""

    code = "unauthenticated"
    hint = "Send `Authorization: Bearer KEY`; `llmhub keys create` makes a key."


class Forbidden(HubError):
    """The key is known and does not carry the permission."""

    code = "forbidden"


class NotFound(HubError):
    """Nothing by that name that the caller may see."""

    code = "not_found"


class RequestInvalid(HubError):
    """A parameter is unknown or out of range; the message names it."""

    code = "request_invalid"


class Conflict(HubError):
    """The thing already exists or was changed by somebody else."""

    code = "conflict"


class VersionChanged(HubError):
    """The thing was changed since the caller read it; nothing was written."""

    code = "version_changed"
    hint = "Read it again, and send the change with the new ETag in If-Match."


class Busy(HubError):
    """Refused before anything was taken; the same request may be sent again later."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ShardFull(Busy):
    """A shard's buffer is at its limit; nothing of the batch was journaled there."""

    code = "shard_full"
    hint = "Send the same batch again after the time in Retry-After; repeats are recognised by event id."


class RateLimited(Busy):
    """The tenant's rate or byte quota is used up."""

    code = "rate_limited"


class Unavailable(Busy):
    """A part of the hub is restarting or cannot be reached."""

    code = "unavailable"
    hint = "The hub is recovering; send the same request again."


class JournalCorrupt(HubError):
    """A journal record before an intact one fails its checksum: not a torn tail, so nothing is cut."""

    code = "journal_corrupt"
    hint = "The shard has stopped. The readable records are in the report; see docs/operations.md, 'Corrupt journal'."


class JournalFailed(HubError):
    """An append or fsync failed; the segment is closed for good and the batch was not acknowledged."""

    code = "journal_failed"


class SequenceGap(HubError):
    """A seal arrived whose predecessor was never committed; committing it would hide a loss."""

    code = "sequence_gap"


class Fenced(HubError):
    """A later incarnation of the shard has taken over; this one must end."""

    code = "fenced"


class CommitLost(HubError):
    """A commit was written and is not there when the table is read again."""

    code = "commit_lost"


class QueryTimeout(HubError):
    """The question ran past its deadline and was cancelled."""

    code = "query_timeout"
    hint = "Ask for a shorter range, fewer groups, or a coarser granularity."
