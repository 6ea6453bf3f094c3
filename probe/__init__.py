"""From sound and words to scores: manifest, plan, cache, scores."""
