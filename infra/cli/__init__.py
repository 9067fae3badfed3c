"""The `llmhub` command."""

from infra.cli.application import main

__all__ = ["main"]
