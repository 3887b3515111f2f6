"""The data path. One request's life is one coroutine, `exchange.exchange.Exchange`, that reads from top to bottom.

    app -> listener -> downstream (Downstream) -> exchange (Exchange) -> upstream (Pool, Upstream) -> endpoint

`Downstream` and `Upstream` are asyncio protocols, one for each connection. They cut bytes into heads and bodies
(`http1`) and tell the exchange what happened; the exchange decides. Bodies pass from one to the other without waking
it. What waits does so in one place, `Handler._wait`, and is woken by an event or by an exception that says why waiting
is over (the app left, a deadline passed, the attempt failed). Nothing here runs as an asyncio task but the opening of
connections: an exchange is resumed straight from the callback that has its news.

A connection knows its request's `exchange.handler.Handler`, and no more of it. Which one that is (an exchange, one with
a fallback, an aggregate) is chosen in `exchange.dispatch`.

The classes of the data path are compiled by mypyc where a C compiler is at hand (`setup.py` lists the modules), and run
as they stand where not. So they inherit nothing from asyncio, whose protocol classes are not compiled: the event loop
only calls the methods.

`deadlines` is the only timer of the data path, `problem` writes the answers that the sidecar gives itself, `tunnel`
carries what follows a 101. `exchange.aggregate` answers out of several services: it is the app of calls that take the
same way, each on a `Downstream` whose transport, `exchange.inner_call.InnerCall`, is in memory.
"""
