"""From speech and text to scores: what every stage shares, and a package for each stage."""
