"""Backup of cubes beside a running system, and what is made of one: verified, restored, gone back in time."""
