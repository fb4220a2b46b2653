"""Errors that a user can act on: what was asked, what was found, what to do."""


class VolFError(Exception):
    """Base of all errors of this package; the command line prints its message without a traceback."""


class SettingsError(VolFError):
    """A setting is unknown, impossible, or would make the pretext task unlearnable."""


class DataError(VolFError):
    """A preprocessed case is missing, damaged or unusable."""


class TrainingError(VolFError):
    """A training cannot start, continue or be resumed."""


class WeightsError(VolFError):
    """A file of weights cannot be read, understood, or made to fit."""


class ClusterError(VolFError):
    """A cluster cannot be reached, or its workers cannot do the work."""


class BenchmarkError(VolFError):
    """A comparison cannot be made as it was asked for."""


class StorageError(VolFError):
    """A disk or folder fails a run: full, read-only, gone. No single case is to blame, and the run can go on later."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}".rstrip())
        self.what = what
