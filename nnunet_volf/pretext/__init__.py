"""Pretext tasks: what a network can be trained to do where there are no labels.

A pretext says how samples are made, what they ask for, which head and loss learn it, how well that goes and what it
looks like. All else (cases, crops, checkpoints, resuming, logs) is the same for all and lives in `pretraining`.
"""
