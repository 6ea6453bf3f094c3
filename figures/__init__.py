"""From findings to ink."""
