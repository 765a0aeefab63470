"""Training: the loop, runs that can be resumed, gradients through time, profiling."""
