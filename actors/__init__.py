"""Ray shells, thin: each hosts something from `memos_ray` and executes what that decides."""
