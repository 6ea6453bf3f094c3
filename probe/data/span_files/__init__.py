"""Files of spans within recordings: Praat TextGrids, CTM and tables, each read as spans with labels."""
