"""What the results of a benchmark say together: comparisons, their uncertainty, and a verdict."""
