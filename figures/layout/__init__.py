"""Parts of all figures: style, widths, the layer axis, grids and panels."""
