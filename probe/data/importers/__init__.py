"""One file for each corpus that is imported as it ships."""
