"""Here each corpus that is imported as it ships has its file."""
