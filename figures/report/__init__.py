"""Here a run folder becomes one HTML page that needs no network."""
