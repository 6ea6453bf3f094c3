"""Errors of the user's input."""


class InputError(ValueError):
    """Error in the user's input; its message names what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2. Any other exception is an error of this program
    and keeps its traceback.
    """


class InvalidAudioError(Exception):
    """The reason why an audio file can't be used; its utterance is quarantined, and the others are processed."""
