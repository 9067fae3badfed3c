"""How a job ends: its report as one JSON object on standard output, or the error in one line, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from cluster.errors import HubError


def reported(
    work: Callable[[], dict[str, Any]], is_good: Callable[[dict[str, Any]], bool] = lambda report: True
) -> int:
    """Do the work and print its report; exit code 0, or 1 when it failed or the report is not good."""
    try:
        report = work()
    except HubError as error:
        told = " ".join(f"{one.rstrip('.')}." for one in (error.message, error.hint) if one)
        print(f"{error.code}: {told}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=1))
    return 0 if is_good(report) else 1
