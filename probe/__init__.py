"""From speech and text to scores: what all stages need, and a package for each stage."""
