"""Adds HTTP_PROXY and NO_PROXY to the app's containers that ask for them.

This module owns which variables are added. Each one is added in upper and in lower case, because curl reads only
`http_proxy`, and other clients read only the upper-case one. Variables that a container sets itself are never changed.
A container with its own HTTP_PROXY gets nothing; one with its own NO_PROXY keeps that one. HTTPS_PROXY is not set,
because the sidecar passes no TLS of the app's on: it reads what comes after a CONNECT.

Beside an ordinary sidecar, init containers get nothing: they run before it, so all their calls would be refused. The
exception is an init container that is itself a native sidecar, because it also runs later.
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
    """Operations for the wanted containers. True means each of `containers`; a name may also be an init container's.

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
        warnings.append(f"container {container['name']} has its own HTTP_PROXY, which is kept")
        return []
    made = {"HTTP_PROXY": f"http://localhost:{PROXY_PORT}"}
    if "NO_PROXY" in there:
        warnings.append(f"container {container['name']} has its own NO_PROXY, which is kept")
    else:
        made["NO_PROXY"] = ",".join(settings.no_proxy)
    return [{"name": spelt, "value": value} for name, value in made.items() for spelt in (name, name.lower())]
