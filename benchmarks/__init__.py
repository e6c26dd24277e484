"""Benchmarks for developers: the explorer beside frontrun, and the cost of a panel."""
