"""What `memos-ray bench chaos` does but for the faults themselves: the plan of faults, the load, and the books."""
