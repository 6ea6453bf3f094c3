"""Here is what probes predict: ratings, classes, residuals, and control tasks (Hewitt and Liang, 2019)."""
