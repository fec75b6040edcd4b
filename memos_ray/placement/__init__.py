"""Where cubes go: pure decisions, executed by the actors."""
