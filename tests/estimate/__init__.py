"""Tests of `tidegate.estimate`."""
