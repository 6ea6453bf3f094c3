"""Ratings in time (traces) of raters, and what becomes of them: ratings of spans, and the agreement of raters."""
