"""Here each figure has its file: a function that fills axes, and one that makes the whole figure."""
