"""Checks of a study: what a reader of its scores must know, each with a code, a state and a page of explanation."""
