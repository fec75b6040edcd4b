"""Bring-up: starting or joining a system, and the command line."""
