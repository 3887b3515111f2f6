"""What the data path uses of msgspec.structs."""

from typing import Any, TypeVar

_Struct = TypeVar("_Struct")

def replace(struct: _Struct, /, **changes: Any) -> _Struct: ...
