"""A message as protobuf's generated classes have them: as far as the fakes look at it."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass
class Event:
    """The same event may have several encodings, as with protobuf."""

    id: int = 0

    def SerializeToString(self) -> bytes:  # noqa: N802
        return json.dumps({"id": self.id}).encode()

    @classmethod
    def FromString(cls, raw: bytes) -> Event:  # noqa: N802
        return cls(**json.loads(raw))
