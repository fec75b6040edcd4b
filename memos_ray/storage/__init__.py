"""Where data lies: what a data root may be, how its store is reached, small files in it, and whether it can be trusted.

Knows folders and object stores; nothing of cubes, journals or tables.
"""
