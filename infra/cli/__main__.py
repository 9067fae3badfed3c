"""`python -m infra.cli` is `llmhub`."""

from infra.cli import main

main()
