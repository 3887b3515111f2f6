"""Reads and writes AdmissionReview (admission.k8s.io/v1): bytes to a request, and a result to bytes.

This module owns the wire format, and the errors for a body that is not a review. It does no I/O. The source is the
Kubernetes documentation, "Dynamic Admission Control". An API server counts a status other than 200 as a failed call, to
which the webhook's failurePolicy applies. It cuts each warning at 256 characters, and all of them at 4,096.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from sidecar.kubernetes.patch import Result

API_VERSION: Final = "admission.k8s.io/v1"
LONGEST_WARNING: Final = 250
LONGEST_DENIAL: Final = 1000
MOST_WARNINGS: Final = 16
LONGEST_UID: Final = 256

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class BadReview(ValueError):
    """The body is not a review that can be answered. `str()` says why, without quoting the body."""


class _Kind(Struct, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Request(Struct, frozen=True):
    uid: str
    kind: _Kind
    operation: str
    object: Any = None
    namespace: str | None = None


class _Review(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _Request | None = None


class Question(Struct, frozen=True, kw_only=True):
    """`pod` is None if the review is about an object that nothing is injected into."""

    uid: str
    namespace: str = ""
    pod: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(_Review)


def read(body: bytes | bytearray) -> Question:
    """Raises BadReview."""
    try:
        review = _DECODER.decode(body)
    except msgspec.ValidationError as wrong:
        raise BadReview(f"this is not an AdmissionReview: {wrong}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadReview("this is not JSON") from None
    except RecursionError:
        raise BadReview("the nesting is too deep") from None
    if review.kind != "AdmissionReview":
        raise BadReview("this is not an AdmissionReview")
    if review.api_version != API_VERSION:
        raise BadReview(f"only {API_VERSION} is supported; set admissionReviewVersions: [v1]")
    request = review.request
    if request is None:
        raise BadReview("the AdmissionReview has no request")
    if not 0 < len(request.uid) <= LONGEST_UID:
        raise BadReview("the request has no usable uid")
    is_new_pod = request.operation == "CREATE" and (request.kind.group, request.kind.kind) == ("", "Pod")
    pod = request.object if is_new_pod and isinstance(request.object, dict) else None
    return Question(uid=request.uid, namespace=request.namespace or "", pod=pod)


def answer(uid: str, result: Result) -> bytes:
    """The AdmissionReview with this result."""
    response: dict[str, Any] = {"uid": uid, "allowed": result.denied is None}
    if result.denied is not None:
        response["status"] = {
            "status": "Failure",
            "message": _line(result.denied)[:LONGEST_DENIAL],
            "reason": "Forbidden",
            "code": 403,
        }
    if result.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(msgspec.json.encode(result.patch)).decode()
    if result.warnings:
        response["warnings"] = [_line(one)[:LONGEST_WARNING] for one in result.warnings[:MOST_WARNINGS]]
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def _line(text: str) -> str:
    """The text on one line, because clients print it as one line or put it into a header."""
    return _CONTROL.sub(" ", text)
