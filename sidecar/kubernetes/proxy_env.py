"""HTTP_PROXY and NO_PROXY for those containers of an app that ask for them.

Owns which variables are added: each in upper and in lower case, for curl reads only `http_proxy` and others only the
upper one. What a container sets itself is never touched: with an HTTP_PROXY of its own it is left as it is, with a
NO_PROXY of its own it keeps that. HTTPS_PROXY is not set: the sidecar does not tunnel (CONNECT is a 405). Beside an
ordinary sidecar init containers get nothing: they run before it, and all their calls would be refused. Those that are
native sidecars themselves run on beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.kubernetes.patch_path import Operation, add_items
from sidecar.kubernetes.pod import Object, containers
from sidecar.kubernetes.settings import PROXY_PORT, InjectorSettings

TOO_EARLY: Final = "is an init container, which runs before an ordinary sidecar"


def proxy_env(
    pod: Object, wanted: bool | tuple[str, ...], settings: InjectorSettings, warnings: list[str]
) -> Iterator[Operation]:
    """Operations for the containers wanted; True is each of `containers`, a name may be an init container's too.

    Raises NotAPod.
    """
    if wanted is False:
        return
    missing = set(() if wanted is True else wanted)
    for kind in ("containers", "initContainers"):
        for place, one in enumerate(containers(pod, kind)):
            name = one["name"]
            if (kind == "containers") if wanted is True else (name in missing):
                missing.discard(name)
                ends_before = kind == "initContainers" and one.get("restartPolicy") != "Always"
                if ends_before and not settings.native:
                    warnings.append(f"annotation sidecar.dev/http-proxy: {name} {TOO_EARLY}; ignored")
                    continue
                yield from add_items(one, f"/spec/{kind}/{place}/env", "env", _variables(one, settings, warnings))
    warnings += [
        f"annotation sidecar.dev/http-proxy: there is no container {name}; ignored" for name in sorted(missing)
    ]


def _variables(container: Object, settings: InjectorSettings, warnings: list[str]) -> list[Object]:
    there = {str(variable.get("name")).upper() for variable in container.get("env") or []}
    if "HTTP_PROXY" in there:
        warnings.append(f"container {container['name']} has an HTTP_PROXY of its own, which stays")
        return []
    made = {"HTTP_PROXY": f"http://localhost:{PROXY_PORT}"}
    if "NO_PROXY" in there:
        warnings.append(f"container {container['name']} has a NO_PROXY of its own, which stays")
    else:
        made["NO_PROXY"] = ",".join(settings.no_proxy)
    return [{"name": spelt, "value": value} for name, value in made.items() for spelt in (name, name.lower())]
