"""Stands where Ray Serve expects the HAProxy program: hardens the configuration, then becomes HAProxy.

Run as `python edge_start.py REAL_HAPROXY HOST BODY_BYTES_MAX -db -f CONFIG …`. Imports nothing it does not need: it
runs at each reload, while requests wait. The configuration is edited in place, because Serve recognises its HAProxy
processes by that path on their command line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from infra.runtime.edge_rules import Limits, TemplateChanged, harden, problem_response

# Any failure here keeps the edge closed; Serve reports the text and tries again.
EXIT_REFUSED = 78


def main(arguments: list[str]) -> int:  # noqa: RET503 - exec does not return
    """Exit code of a refusal; on success this process has become HAProxy and nothing returns."""
    real, host, body_bytes_max, *options = arguments
    try:
        config = Path(options[options.index("-f") + 1])
        error_file = config.with_name("unavailable.http")
        # 600: it names ports and paths.
        os.umask(0o077)
        error_file.write_text(problem_response(), newline="")
        limits = Limits(body_bytes_max=int(body_bytes_max), host=host)
        hardened = harden(config.read_text(), limits, error_file=str(error_file))
        temporary = config.with_suffix(f".{os.getpid()}")
        temporary.write_text(hardened)
        temporary.replace(config)
    except (TemplateChanged, ValueError, IndexError, OSError) as error:
        print(f"the edge stays closed: {error}", file=sys.stderr)
        return EXIT_REFUSED
    os.execv(real, [real, *options])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
