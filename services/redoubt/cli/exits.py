"""Exit codes, all of them; scripts may rely on them. Errors carry theirs (`errors.py`).

| code | meaning |
|---|---|
| 0 | done |
| 1 | unexpected: a defect, or something nobody foresaw; the log says more |
| 2 | bad input: an option, a file or a document that cannot be used |
| 3 | the question was refused: nothing that may be read supports an answer |
| 4 | what was named does not exist, or may not be seen |
| 5 | the present state does not allow it: a name taken, another command at work |
| 6 | no key, or one that is not valid |
| 7 | a service that is needed does not answer |
| 8 | this machine lacks something: a free port, memory, a program |
| 130 | interrupted (Ctrl-C) |
"""

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    UNEXPECTED = 1
    INPUT = 2
    REFUSED = 3
    NOT_FOUND = 4
    CONFLICT = 5
    AUTH = 6
    UNAVAILABLE = 7
    ENVIRONMENT = 8
    INTERRUPTED = 130
