"""The parts of `bench.flush`."""
