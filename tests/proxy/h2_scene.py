"""An app that speaks HTTP/2 to a world without sockets."""

from __future__ import annotations

from typing import Any

from tests.proxy.fakes import World
from tests.support.h2_app import Answer, H2App


class AppSide:
    """A connection, its SETTINGS exchanged unless `silent`. `before` is sent ahead of the preface."""

    def __init__(self, world: World, *, before: bytes = b"", silent: bool = False, **more: Any) -> None:
        self.world = world
        self.app = H2App(**more)
        self.wire = world.app()
        if before:
            self.wire.says(before)
            self.wire.take()
        if not silent:
            self.talk()

    def talk(self) -> None:
        """Say what there is to say, and hear what comes of it."""
        while data := self.app.take():
            self.wire.says(data)
            self.hear()

    def hear(self) -> None:
        self.world.settle()
        heard = self.wire.take()
        if heard:
            self.app.hear(heard)

    def ask(self, *what: Any, **more: Any) -> Answer:
        """Begin a request; what came of it so far."""
        number = self.app.ask(*what, **more)
        self.talk()
        return self.app.answers[number]

    def call(self, *what: Any, **more: Any) -> Answer:
        """Begin a gRPC call; what came of it so far."""
        number = self.app.call(*what, **more)
        self.talk()
        return self.app.answers[number]

    def news(self) -> None:
        """Hear what has come, and answer it."""
        self.hear()
        self.talk()
