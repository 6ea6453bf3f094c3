"""The audio-textual regressor: training, prediction, export and counts of parameters."""
