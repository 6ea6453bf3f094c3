"""Errors of the user's input, each with the code of a page that explains it."""


class CodedError(Exception):
    """An error whose page is ``docs/codes/CODE.md``; ``layerprobe explain CODE`` prints it.

    Attributes:
        code: LP and three digits
        message: what is wrong, where, and what to do, without the code
    """

    def __init__(self, code: str, message: str) -> None:
        """Set the code and the message."""
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return the message followed by the code in brackets."""
        return f"{self.message} [{self.code}]"


class InputError(CodedError, ValueError):
    """Error in the user's input; its message names what is wrong, where, and what to do.

    The command line prints the message with its code and exits with code 2. Any other exception is an error of this
    program and keeps its traceback.
    """


class InvalidAudioError(CodedError):
    """The reason why an audio file can't be used; its utterance is quarantined, and the others are processed."""
