"""One module per benchmark: pure measurement. Commands, progress bars and actors live outside."""
