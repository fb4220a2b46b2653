"""Pretrained weights: read any file safely, say what it is, compare it with a task, adapt it, export and import it."""
