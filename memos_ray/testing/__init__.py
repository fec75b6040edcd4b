"""What tests of cubes need, here and elsewhere: cubes without Ray, stores in memory, the explorer of interleavings."""
