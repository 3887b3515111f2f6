"""The data path. One request's life is one coroutine, `exchange.exchange.Exchange`, that reads from top to bottom.

    app -> listener -> downstream -> exchange -> upstream -> endpoint

`downstream` and `upstream` have the connections: asyncio protocols, which cut bytes into heads and bodies (`http1`) and
tell the exchange what happened; the exchange decides. Between them and it are two seams, `downstream.stream` and
`upstream.stream`, which know no protocol. Bodies pass from one side to the other without waking the exchange. What
waits does so in one place, `downstream.handler.event`, and is woken by an event or by an exception that says why
waiting is over (the app left, a deadline passed, the attempt failed). Nothing here runs as an asyncio task: an exchange
is resumed straight from the callback that has its news.

Imports go downwards only: `listener`, `exchange`, `core`, `downstream` and `upstream` (which do not know each other),
`http1`. The files in the order of a request stand in docs/architecture.md.

The classes of the data path are compiled by mypyc where a C compiler is at hand (`setup.py` lists the modules), and run
as they stand where not. So they inherit nothing from asyncio, whose protocol classes are not compiled: the event loop
only calls the methods.
"""
