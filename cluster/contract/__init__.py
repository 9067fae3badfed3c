"""The event contract: what the five modules tell the hub, and the columns it becomes."""
