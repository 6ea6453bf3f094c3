"""From findings to figures and the HTML report."""
