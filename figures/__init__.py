"""Here findings become figures and the HTML report."""
