"""The error that a user can do something about."""


class VolFError(Exception):
    """Something the user asked for cannot be done; the message says what was found and what to do.

    The command line prints it as one message, without a traceback.
    """
