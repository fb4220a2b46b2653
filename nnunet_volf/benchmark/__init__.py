"""Does it help my task? Trainings of several arms on few labels, compared case by case."""
