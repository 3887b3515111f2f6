"""Schemas of the custom resources of other projects that deploy/ uses. A field that is missing here is an error.

Kubernetes' own schemas do not include them. These were written from the documentation of prometheus-operator 0.91
(monitoring.coreos.com/v1) and of cert-manager after 1.18 (cert-manager.io/v1), and contain only the fields in use. To
use another field, look it up there and add it. They also contain the rules of cert-manager's webhook.
"""

from __future__ import annotations

import re
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}


def _object(*required: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


RELABELING = _object(
    targetLabel=TEXT,
    replacement=TEXT,
    regex=TEXT,
    action={"enum": ["replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep"]},
)
SPECS: dict[tuple[str, str], Schema] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        "selector",
        namespaceSelector=_object(any={"type": "boolean"}),
        selector=_object(),
        podMetricsEndpoints={
            "type": "array",
            "items": _object(port=TEXT, path=TEXT, relabelings={"type": "array", "items": RELABELING}),
        },
    ),
    ("cert-manager.io/v1", "Issuer"): _object(selfSigned=_object(), ca=_object("secretName", secretName=TEXT))
    | {"minProperties": 1, "maxProperties": 1},
    ("cert-manager.io/v1", "Certificate"): _object(
        "secretName",
        "issuerRef",
        secretName=TEXT,
        issuerRef=_object("name", name=TEXT, kind={"enum": ["Issuer", "ClusterIssuer"]}),
        isCA={"type": "boolean"},
        commonName=TEXT | {"maxLength": 64},
        dnsNames={"type": "array", "items": TEXT, "minItems": 1},
        duration=TEXT,
        renewBefore=TEXT,
        privateKey=_object(
            algorithm={"const": "ECDSA"},
            size={"enum": [256, 384, 521]},
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
        usages={"type": "array", "items": {"enum": ["server auth", "digital signature", "key encipherment"]}},
    )
    | {"anyOf": [{"required": ["commonName"]}, {"required": ["dnsNames"]}]},
}
METADATA = _object(
    "name", name=TEXT, namespace=TEXT, labels={"type": "object", "additionalProperties": TEXT}, annotations={}
)


def is_custom(found: dict[str, Any]) -> bool:
    return (found["apiVersion"], found["kind"]) in SPECS


def problems(found: dict[str, Any]) -> list[str]:
    """The errors of an object according to its definition, each with its place."""
    spec = SPECS[found["apiVersion"], found["kind"]]
    whole = _object("metadata", "spec", apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=spec)
    errors = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in Draft202012Validator(whole).iter_errors(found)
    ]
    if not errors and found["kind"] == "Certificate":
        hours, before = (_hours(found["spec"][name]) for name in ("duration", "renewBefore"))
        if not 1 <= before < hours:
            errors.append(f"spec.renewBefore: {before} h are not below duration, {hours} h")
    return errors


def _hours(text: str) -> int:
    """Whole hours, the largest unit in Go's notation of durations."""
    found = re.fullmatch(r"(\d+)h", text)
    assert found is not None, text
    return int(found[1])
