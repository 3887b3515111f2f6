"""AdmissionReview (admission.k8s.io/v1), in and out: bytes to a request, a result to bytes.

Owns the wire format, and what is answered to a review that is none. Pure. Source: the Kubernetes documentation,
"Dynamic Admission Control", and what an API server does with an answer: a status other than 200 counts as a failed
call, for which the webhook's failurePolicy is; warnings are cut at 256 characters each and 4,096 together.
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
    """It is no review that can be answered as one; `str()` says why, without what was in it."""


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
    """`pod` is None where the review is about something that nothing is injected into."""

    uid: str
    namespace: str = ""
    pod: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(_Review)


def read(body: bytes | bytearray) -> Question:
    """Raises BadReview."""
    try:
        review = _DECODER.decode(body)
    except msgspec.ValidationError as wrong:
        raise BadReview(f"this is no AdmissionReview: {wrong}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadReview("this is not JSON") from None
    except RecursionError:
        raise BadReview("this is nested too deeply") from None
    if review.kind != "AdmissionReview":
        raise BadReview("this is no AdmissionReview")
    if review.api_version != API_VERSION:
        raise BadReview(f"only {API_VERSION} is answered; set admissionReviewVersions: [v1]")
    request = review.request
    if request is None:
        raise BadReview("the AdmissionReview has no request")
    if not 0 < len(request.uid) <= LONGEST_UID:
        raise BadReview("the request has no usable uid")
    is_new_pod = request.operation == "CREATE" and (request.kind.group, request.kind.kind) == ("", "Pod")
    pod = request.object if is_new_pod and isinstance(request.object, dict) else None
    return Question(uid=request.uid, namespace=request.namespace or "", pod=pod)


def answer(uid: str, result: Result) -> bytes:
    """The AdmissionReview that says it."""
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
    """What a client prints, or puts into a header, as one line."""
    return _CONTROL.sub(" ", text)
