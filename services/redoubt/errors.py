"""The one error tree, so that every failure reaches a person in the same four parts.

    RedoubtError
    ├── InputError            the caller sent something that cannot be served        (exit 2, HTTP 400)
    │   ├── NotFound          what was named does not exist, or may not be seen      (exit 4, HTTP 404)
    │   ├── Conflict          the name is taken, or the state does not allow it      (exit 5, HTTP 409)
    │   ├── EmbedderMismatch  a vector of another embedder than the index's          (exit 5, HTTP 409)
    │   └── TooLarge          more than is accepted at once                          (exit 2, HTTP 413)
    ├── AuthError             no key, or one that is unknown, expired or revoked     (exit 6, HTTP 401)
    ├── Unavailable           a service that is needed does not answer               (exit 7, HTTP 503)
    │   ├── CatalogDown       Postgres
    │   ├── EmbedderDown      the embedding model
    │   └── GatewayDown       the gateway
    ├── Environment           this machine lacks something: port, memory, a program  (exit 8, HTTP 500)
    └── DocumentRejected      a document cannot be read; parked with its reason      (exit 2, HTTP 400)

`what` happened, `why`, and what to do (`fix`) are written for a person. None of them may hold document
text or a secret: they end in logs and answers.
"""

from typing import ClassVar


class RedoubtError(Exception):
    """The root: anything that Redoubt itself decided to report."""

    reference: ClassVar[str] = "error"  # stable, kebab-case; documented, and safe to match on
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def as_dict(self) -> dict[str, str]:
        """The error as the CLI's `--json` and the gateway's body carry it."""
        parts = {"reference": self.reference, "what": self.what, "why": self.why, "fix": self.fix}
        return {name: value for name, value in parts.items() if value}


class InputError(RedoubtError):
    """The caller sent something that cannot be served."""

    reference = "bad-input"
    exit_code = 2
    http_status = 400


class NotFound(InputError):
    """What was named does not exist, or this principal may not see it: the two read the same."""

    reference = "not-found"
    exit_code = 4
    http_status = 404


class Conflict(InputError):
    """The name is taken, or the present state does not allow the change."""

    reference = "conflict"
    exit_code = 5
    http_status = 409


class EmbedderMismatch(InputError):
    """A vector made by another embedder than the one that the generation was built with."""

    reference = "embedder-mismatch"
    exit_code = 5
    http_status = 409


class TooLarge(InputError):
    """More than is accepted at once."""

    reference = "too-large"
    http_status = 413


class AuthError(RedoubtError):
    """No key, or one that is unknown, expired or revoked: the three read the same."""

    reference = "unauthorized"
    exit_code = 6
    http_status = 401


class Unavailable(RedoubtError):
    """A service that this needs does not answer."""

    reference = "unavailable"
    exit_code = 7
    http_status = 503

    def __init__(self, what: str, *, why: str = "", fix: str = "", kind: str = "connection") -> None:
        super().__init__(what, why=why, fix=fix)
        self.kind = kind  # one of `metrics.UPSTREAM_ERRORS`


class CatalogDown(Unavailable):
    """Postgres does not answer."""

    reference = "catalog-down"


class EmbedderDown(Unavailable):
    """The embedding model does not answer, or answers with something that is no embedding."""

    reference = "embedder-down"


class GatewayDown(Unavailable):
    """The gateway does not answer."""

    reference = "gateway-down"


class Environment(RedoubtError):
    """This machine lacks something that was checked before anything started."""

    reference = "environment"
    exit_code = 8
    http_status = 500


class DocumentRejected(RedoubtError):
    """A document that cannot become searchable as it is; trying again would not help.

    `reason` is one of the words in `model.Reason`; it is what `redoubt index failures` shows.
    """

    reference = "document-rejected"
    exit_code = 2
    http_status = 400

    def __init__(self, reason: str, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.reason = reason
