"""The ways the API can fail, each with the `reason` it is counted under.

    ApiError
    ├── Unauthorized       401                             the key is missing, wrong or expired
    ├── Forbidden          403                             the key may not do this, or the region may not
    ├── PaymentRequired    402                             billing problem
    ├── Gone               404, 410                        nothing is there (any more)
    ├── RateLimited        429                             too many calls at once
    │   └── QuotaSpent     429 for the month, own budget   waiting seconds does not help
    ├── ServerError        5xx
    ├── Timeout            408, or the deadline of a request passed
    ├── ConnectionFailed   no answer: DNS, TCP or TLS failed, or the connection broke
    ├── InvalidResponse    an answer that is not what the specification says
    │   └── PaginationLimitExceeded  pages that repeat themselves, or too many of them
    └── InternalError      a bug of the exporter, or no memory

A message is one line for people and never holds a secret or a response body.
"""

from typing import ClassVar, Self


class ApiError(Exception):
    """A call to the API failed.

    `status` is the HTTP status, None when there was none; `trace_id` the API's `x-debug-trace-id`;
    `retry_after` the seconds the API asked to wait, None when it did not ask; `advice` says what to do,
    by default what helps with most errors of its kind.
    """

    reason: ClassVar[str]
    advice: str

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        trace_id: str | None = None,
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.trace_id = trace_id
        self.retry_after = retry_after
        self.advice = advice or type(self).advice

    def without_traceback(self) -> Self:
        """Return it without its traceback, whose frames hold the whole response that failed."""
        self.__traceback__ = self.__context__ = self.__cause__ = None
        return self

    def fields(self) -> dict[str, str]:
        """Return what a log line says of it."""
        fields = {"reason": self.reason, "error": self.message}
        return {**fields, "trace_id": self.trace_id} if self.trace_id else fields


class Unauthorized(ApiError):
    """The API refused the key."""

    reason = "unauthorized"
    advice = (
        "Check the key (COHERE_API_KEY or --cohere.api-key-file): is it mistyped, truncated, expired or "
        "revoked? Give only the key, without quotes or NAME= around it."
    )


class Forbidden(ApiError):
    """The API knows the caller and refuses the call."""

    reason = "forbidden"
    advice = (
        "Ask the account's administrator: the key lacks permission to list models, or its region is blocked."
    )


class PaymentRequired(ApiError):
    """The account has a billing problem."""

    reason = "payment_required"
    advice = "Check the account's billing."


class Gone(ApiError):
    """What was asked for is not there: a retired service, a wrong base URL, a deleted model."""

    reason = "gone"
    advice = (
        "Fine-tuning API not found at the configured URL: check --cohere.base-url and its path prefix. "
        "Cohere's public platform has retired fine-tuning; private deployments have not."
    )


class RateLimited(ApiError):
    """Too many calls."""

    reason = "rate_limited"
    advice = "Send fewer requests: raise --poll.interval or lower --cohere.requests-per-minute."


class QuotaSpent(RateLimited):
    """The calls of the month are spent, by the API's count or by the exporter's own budget."""

    advice = "Wait until the quota renews; set --cohere.calls-per-month to make the next one last."


class ServerError(ApiError):
    """The API failed on its side."""

    reason = "server_error"
    advice = "Nothing to do here: the API is failing. The exporter keeps polling."


class Timeout(ApiError):
    """No whole answer within the deadline."""

    reason = "timeout"
    advice = "Check the network between here and --cohere.base-url, or raise --cohere.timeout."


class ConnectionFailed(ApiError):
    """No answer at all, or one that broke off."""

    reason = "connection"
    advice = "Check --cohere.base-url (scheme, host, port), DNS, proxy and firewall."


class InvalidResponse(ApiError):
    """An answer that the specification does not allow."""

    reason = "invalid_response"
    advice = "Check --cohere.base-url: the server there does not speak the fine-tuning API."


class PaginationLimitExceeded(InvalidResponse):
    """The pages repeat themselves or exceed their limit; trying again soon would cost as many calls again."""


class InternalError(ApiError):
    """Nothing that the API did: a bug of the exporter, or memory that ran out."""

    reason = "internal_error"
    advice = "Report it with the traceback from the log, and check the memory limit of the process."


REASONS = tuple(error.reason for error in ApiError.__subclasses__())
