"""What all trainings share: encoders as trainable branches, checkpoints, schedules, the loop."""
