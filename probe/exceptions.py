"""What a user can mend."""


class InputError(ValueError):
    """Something given is wrong: the text says what, where, and how to mend it.

    The command line prints the text alone and exits with 2. Every other exception is our own mistake and
    keeps its traceback.
    """
