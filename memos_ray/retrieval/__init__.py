"""Retrieval: arms, their fusion, and packing of what a reader is given. Pure functions over arrays."""
