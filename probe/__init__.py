"""Here speech and text become scores: what every stage shares, and a package for each stage."""
