"""Parts of every training: encoders as trainable branches, checkpoints, schedules and the loop over steps."""
