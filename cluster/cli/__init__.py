"""The command line: one file per group of commands. Ray and torch are imported when a command needs them."""
