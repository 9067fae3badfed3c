"""Running the hub on one machine: a local Ray, the edge, MLflow, and the process that watches them."""
