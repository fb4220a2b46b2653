"""What a training's files are called, and how it says that it was stopped; known without loading torch."""

from __future__ import annotations

LATEST = "checkpoint_latest.pth"
PREVIOUS = "checkpoint_previous.pth"
BEST = "checkpoint_best.pth"
FINAL = "checkpoint_final.pth"

# Of a pretraining: what its final validation writes, the picture last, and the folder of the pictures before.
SUMMARY, PICTURE = "pretraining_summary.json", "pretraining_panel.png"
PANELS = "panels"

# sysexits.h EX_TEMPFAIL: "try again later". Schedulers can requeue on it and tell it from a crash.
EXIT_REQUEUE = 75

# sysexits.h EX_IOERR: the disk failed it, as it would fail the next training.
EXIT_STORAGE = 74
