"""What the errors of an object store mean: whether a second try can help, and what does if not."""

from __future__ import annotations

import errno
from typing import Any

from assay.errors import one_line

RENEW = "renew the credentials, and give the same command again: it goes on from here"
REGION = "give the region of the bucket in AWS_DEFAULT_REGION"
LOG_IN = "log in again, and give the same command again"
BY_CODE = {
    "ExpiredToken": RENEW,
    "InvalidToken": RENEW,
    "TokenRefreshRequired": RENEW,
    "RequestTimeTooSkewed": "set the clock of this machine",
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
}
"""Answers of S3, by their code."""
BY_NAME = {
    "NoCredentialsError": "give AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "give an AWS_PROFILE that there is",
    "TokenRetrievalError": LOG_IN,
    "UnauthorizedSSOTokenError": LOG_IN,
    "SSOTokenLoadError": LOG_IN,
    "ParamValidationError": "give s3://BUCKET/PATH",
    "InvalidRegionError": "give an AWS_DEFAULT_REGION that there is",
    "RecursionError": REGION,
}
"""Errors of botocore, by their class; it follows redirects to another region without end."""


def advice(error: BaseException) -> str:
    """Return what to do about an answer that will not change; "": it may change."""
    known = BY_CODE.get(_answer(error).get("Code", "")) or BY_NAME.get(type(error).__name__)
    if known is not None:
        return known
    text = str(error).lower()
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EACCES:
        if "expired" in text:
            return RENEW
        if "request time" in text or "skew" in text:
            return BY_CODE["RequestTimeTooSkewed"]
        return "see that the credentials are right and may list, read and write there"
    if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
        return "see that the address is right"
    if isinstance(error, ValueError | TypeError | NotImplementedError):
        return "it may not know conditional writes; choose another store"
    return ""


def exists(error: BaseException) -> bool:
    """Return whether a conditional write was refused by a store that does not say it so plainly."""
    return _answer(error).get("Code") in ("PreconditionFailed", "412")


def said(error: BaseException) -> str:
    """Return an error in a line: in the words of the store, where it has any."""
    if isinstance(error, RecursionError):
        return "it sends on to another address without end"
    message = _answer(error).get("Message")
    if message:
        return one_line(str(message), 160)
    text = error.args[1] if len(error.args) > 1 and isinstance(error, OSError) else error
    if not str(text) and isinstance(error, TimeoutError):
        return "no answer in time"
    return one_line(str(text), 160) or type(error).__name__


def _answer(error: BaseException) -> dict[str, Any]:
    """Return {"Code", "Message"} as S3 gave them, or {}."""
    for one in (error, error.__cause__):
        found = (getattr(one, "response", None) or {}).get("Error")
        if found:
            return dict(found)
    return {}
