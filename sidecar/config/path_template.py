"""Parse path templates, which take parameters of a request's query: `/venues/{query.id}?lang={query.lang}`.

`sidecar.proxy.exchange.path_values` puts the values in, and encodes them.
"""

from __future__ import annotations

import re

from sidecar.config.errors import BadValueError
from sidecar.config.http_words import parse_target
from sidecar.config.schema import PathTemplate

MAX_LENGTH = 2048

_PLACE = re.compile(r"\{query\.([A-Za-z0-9_.~-]{1,64})\}")


def parse_path_template(text: str) -> PathTemplate:
    """Raises BadValueError for any other brace: it is probably a misspelt {query.NAME}, so it is not sent as it is."""
    literals: list[str] = []
    parameters: list[str] = []
    at = 0
    for place in _PLACE.finditer(text):
        literals.append(text[at : place.start()])
        parameters.append(place[1])
        at = place.end()
    literals.append(text[at:])
    plain = "".join(literals)
    if "{" in plain or "}" in plain:
        raise BadValueError("braces are only for {query.NAME}; write %7B and %7D for other braces")
    parse_target(plain)
    if not text.startswith("/"):
        raise BadValueError("a path must begin with /")
    if len(text) > MAX_LENGTH:
        raise BadValueError(f"expected a path of at most {MAX_LENGTH} characters")
    return PathTemplate(tuple(literals), tuple(parameters))
