"""Runnable measurements behind the figures in the documents."""
