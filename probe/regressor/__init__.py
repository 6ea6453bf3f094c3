"""The audio-textual regressor: train, predict, export."""
