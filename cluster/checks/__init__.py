"""What `memos-ray doctor` looks at beside the cubes: this machine, the way to the cluster, what runs there."""
