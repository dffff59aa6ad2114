"""The two failures this project expects: a user's mistake, and one unusable input image.

Everything else is a defect and keeps its traceback.
"""


class UserError(Exception):
    """Something the person at the keyboard can put right: what went wrong, and what to do about it.

    The command line prints the two lines and exits with status 2.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}"


class RejectedSample(Exception):
    """An input image that cannot be used; becomes one line of `rejects.jsonl`, never a crash.

    `reason` is a short stable word for counting ("truncated", "too_small"); `detail` explains it to a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
