"""What is predicted: ratings, classes, residuals, and control tasks (Hewitt and Liang, 2019)."""
