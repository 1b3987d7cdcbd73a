"""Metrics on tracks and truth: pure functions, one video in memory at a time."""
