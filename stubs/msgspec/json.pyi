"""What the data path uses of msgspec.json."""

from typing import Any

def encode(obj: Any, /) -> bytes: ...
def decode(buf: bytes | str, /, *, type: Any = ...) -> Any: ...  # noqa: A002
