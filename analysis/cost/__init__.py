"""Score against cost: candidates of one or several runs, their Pareto front, and the cheapest that suffices."""
