"""scan.c: where a head ends, and what the head says; None for a head that is left to the Python parser."""

ScannedRequest = tuple[
    str,  # method
    bytes,  # target
    bytes,  # host
    int,  # length
    bool,  # keep_alive
    bool,  # idempotency_key
    bool,  # for_repeated
    bytes | None,  # request_id
    bytes | None,  # traceparent
    bytes | None,  # loop
    tuple[bytes, ...],  # deadline_ms
    list[bytes],  # pieces: the fields before the Host's value, the value, the fields behind it
]
"""The attributes of RequestHead by these names; all others have their defaults."""

ScannedResponse = tuple[
    int,  # status
    bytes,  # status_line
    int,  # length
    bool,  # keep_alive
    bool,  # dated
    bool,  # whether there is a Location: then the pieces are three, and the second is its value
    bytes | None,  # retry_after
    list[bytes],  # pieces
]
"""The attributes of ResponseHead by these names; all others have their defaults."""

def head_end(data: bytes, since: int, /) -> int: ...
def scan_request(head: bytes, max_fields: int, /) -> ScannedRequest | None: ...
def scan_response(head: bytes, answers_head: bool, max_fields: int, /) -> ScannedResponse | None: ...
