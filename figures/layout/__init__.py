"""Here is what all figures share: style, the axis of layers, grids of cells, panels and legends."""
