"""Pickles from strangers, read without running anything: what a file names is made by us from plain data, or not."""
