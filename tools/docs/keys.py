"""The page of every key of the configuration, out of its JSON Schema, with an example of each.

Owns the page's order and words. What is said about a key is the schema's business, and so the docstrings'.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Final

import yaml

from sidecar.config.json_schema import json_schema
from tools.docs.schema_keys import DEFAULTS, ROUTE, TOP, Key, keys_of

EXAMPLES: Final = Path(__file__).with_name("examples.yaml")
_OF_SERVICES: Final = "The services"

_HEAD: Final = """\
# Every key of the configuration

The configuration is one YAML file. Only `services` has to be in it:

```yaml
services:
  venue: {url: "http://venue-service:3002"}
```

[The reference file](../../config/sidecar.yaml) has every key with its default in one place, with comments.
`sidecar check` reads a file and says everything that is wrong with it, with lines. `sidecar explain` says which value a
call gets, and which line set it.

## How values are written

- A **duration** has its unit: `250ms`, `5s`, `2m`, `1h`. A **size** is in bytes, or has a unit: `64KiB`, `1MiB`.
- A **percentage** is `50` or `50%`. A **status** is a number, and in a list also a range: `[500-599, 429]`.
- Only `true` and `false` are booleans: `on` and `off` are words. A key that stands twice in a mapping is an error. So
  is a key that is not on this page.
- `${NAME}` in a value is replaced by that variable of the environment. `${NAME:-default}` has a default. `$${` stands
  for a plain `${`.
- **NAME** in a key below is a name of your own. **`[]`** means an entry of a list.

## Who overrides whom

What `defaults` says holds for each service. A service overrides it key by key, and a route overrides its service:

```yaml
defaults:
  timeout: {attempt: 2s, request: 6s}
services:
  payment:
    url: http://payment-service:3005
    timeout: {attempt: 1s}            # request stays 6s
    routes:
      - match: {path: /reports}
        timeout: {request: 60s}       # attempt stays 1s
```

A list is replaced as a whole. With each key stands where it may be set. What has to do with endpoints and connections
belongs to a service as a whole, and no route can change it.
"""

_SERVICES: Final = """\
A service has exactly one of `url`, `endpoints` and `discovery`. It may have `hosts`, `routes`, `required`, and each key
of a policy: all those from [`timeout`](#timeout) to [`half_close`](#half_close).
"""


def page() -> str:
    """docs/reference/keys.md."""
    examples = read_examples()
    parts = [_HEAD]
    for title, keys in groupby(keys_of(json_schema()), key=_section):
        parts += [f"## {title}\n\n{_SERVICES}"] if title == _OF_SERVICES else []
        parts += [_entry(key, examples[key.path], f"`{key.path}`" == title) for key in keys]
    return "\n".join(parts)


def read_examples() -> dict[str, str]:
    """Path of a key -> its example, as it stands in its place."""
    found: dict[str, str] = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    return found


def _section(key: Key) -> str:
    of_services = DEFAULTS not in key.places and key.places != (TOP,)
    if of_services or key.path in ("services", "defaults"):
        return _OF_SERVICES
    return f"`{key.path.partition('.')[0].partition('[')[0]}`"


def _entry(key: Key, example: str, is_section: bool) -> str:
    facts = [f"**Value:** {key.values}."] if key.values else ["**Value:** the keys below."]
    if key.required:
        facts.append("**Required.**")
    elif key.default:
        facts.append(f"**Default:** {key.default}.")
    facts.append(f"**In:** {_places(key)}.")
    level = "##" if is_section else "###"
    return f"{level} `{key.path}`\n\n{key.text}\n\n{' '.join(facts)}\n\n```yaml\n{example.rstrip()}\n```\n"


def _places(key: Key) -> str:
    if key.places == (TOP,):
        return "the top of the file"
    *first, last = key.places
    words = f"{', '.join(first)} and {last}" if first else last
    return words if ROUTE in key.places or DEFAULTS not in key.places else f"{words}; not in a route"
