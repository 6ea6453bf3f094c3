"""What a sweep probes: ratings, folds, embeddings, concepts, and bins of time."""
