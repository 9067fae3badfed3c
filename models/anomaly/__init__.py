"""What is unusual in metrics and traces: detectors, their thresholds, and the measures that judge them."""
