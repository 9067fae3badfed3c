"""How a command says that it could not do what it was asked."""

from __future__ import annotations

from cluster.errors import HubError


class CommandFailed(HubError):
    """A command could not do what it was asked; the message is the one line the user sees."""

    code = "command_failed"
