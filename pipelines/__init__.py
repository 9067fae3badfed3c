"""Jobs that start, run to an end and exit: `ray job submit --working-dir . -- python -m pipelines.<name>`."""
