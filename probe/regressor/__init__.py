"""The audio-textual regressor: training, prediction and export."""
