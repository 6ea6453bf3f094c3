"""What figures share: style, the layer axis, grids and panels."""
