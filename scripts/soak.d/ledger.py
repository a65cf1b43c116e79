"""What became of each request, and whether that was to be expected.

A failure is `Failed` or `Broken` if the loss of a replica may be the reason: a 502 or 503, a connection or stream that breaks off, the 404
of a lost session. It is expected only in two cases.

* The endpoint that had the request, as the edge's log says, was killed while the request ran, or at most `WINDOW` seconds before it
  began. A request that begins later must not notice anything: the edge cannot connect any more, and takes another replica.
* The failure is the 404 of a session, or the end of its stream, and the endpoint that had opened this session was killed, or was not in the configuration for a
  while, since then.

Everything else is unexpected. `Wrong` and `Hang` are never expected: the answer to somebody else's request, a status that does not belong
there, silence.
"""

import asyncio
import collections
import contextlib
import json
import re
import time

from client import Broken, Hang

WINDOW = 1
# The edge writes its log beside the requests. So a failure is judged a little later, in seconds.
LOG_DELAY = 2
# How many lines of the edge's log are remembered: those of some minutes.
LINES = 60_000
# How many unexpected failures are shown, and how many of those that differ in numbers only.
SHOWN, SHOWN_ALIKE = 20, 3


class Wrong(Exception):
    """The edge has done something that nothing can excuse."""


class Failed(Exception):
    """A failure that the loss of a replica can excuse. `lost`: the session is said to be unknown."""

    def __init__(self, text, lost=False):
        super().__init__(text)
        self.lost = lost


class Over(Exception):
    """An exchange has failed, which is recorded. What should have followed is left out."""


class Session:
    """A session, as far as the rule above needs to know it. `opened_by`: the id of the request that has opened it."""

    def __init__(self):
        self.begun, self.opened_by, self.home = time.monotonic(), None, None


class Exchange:
    """A request and its answer."""

    def __init__(self, kind, what, connection, session):
        self.kind, self.what, self.connection, self.session = kind, what, connection, session
        self.begun, self.request_id = time.monotonic(), None
        self.ended = self.error = self.host = None


class Ledger:
    def __init__(self, fleet, path):
        # `path`: a file with all failures, also the expected ones.
        self.fleet, self.path = fleet, path
        self.good, self.expected, self.unexpected = (collections.Counter() for _ in range(3))
        self.causes, self.notes, self.alike = (collections.Counter() for _ in range(3))
        self.pending, self.shown = [], []
        self.by_id, self.by_host = collections.OrderedDict(), collections.OrderedDict()

    @contextlib.asynccontextmanager
    async def exchange(self, kind, what, connection, session=None):
        """A request and its answer. Whatever goes wrong within is recorded, and ends the exchange and its connection."""
        exchange = Exchange(kind, what, connection, session)
        try:
            yield exchange
        except (Wrong, Failed, Broken, Hang, OSError, KeyError, TypeError, ValueError, IndexError) as error:
            exchange.ended, exchange.error, exchange.host = time.monotonic(), error, connection.host
            self.pending.append(exchange)
            connection.close()
            raise Over from error
        except asyncio.CancelledError:
            # The client leaves, as it does in the middle of many a stream.
            connection.close()
            self.good[kind] += 1
            raise
        self.good[kind] += 1

    def wrong(self, kind, text):
        """Something unexpected that is not about a request."""
        self.unexpected[kind] += 1
        self.keep(f"unexpected: {kind}: {text}")
        self.show(f"{kind}: {text}")

    def logged(self, line):
        """Takes an access line of the edge."""
        entry = json.loads(line)
        for known, key in ((self.by_id, entry["request_id"]), (self.by_host, entry["host"])):
            known[key] = line
            if len(known) > LINES:
                known.popitem(last=False)

    def settle(self, everything=False):
        """Judges the failures whose lines must be in the log by now."""
        now, waiting = time.monotonic(), []
        for exchange in self.pending:
            if not everything and now - exchange.ended < LOG_DELAY:
                waiting.append(exchange)
                continue
            cause, text = self.cause(exchange), self.told(exchange)
            self.keep(f"{cause or 'unexpected'}: {text}")
            if cause:
                self.expected[exchange.kind] += 1
                self.causes[cause] += 1
            else:
                self.unexpected[exchange.kind] += 1
                self.show(text)
        self.pending = waiting

    def cause(self, exchange):
        """Why a failure was to be expected. None: it was not."""
        error, session, kills = exchange.error, exchange.session, self.fleet.kills
        if isinstance(error, Failed) and error.lost:
            home = session and self.home(session)
            return home and self.fleet.lost(home, session.begun, exchange.ended)
        if not isinstance(error, (Failed, Broken, ConnectionError)):
            return None
        endpoint = self.entry(exchange).get("endpoint")
        if any(killed == endpoint and exchange.begun <= at <= exchange.ended for killed, at in kills):
            return "a request that ran when its replica was killed"
        if any(killed == endpoint and exchange.begun - WINDOW <= at <= exchange.begun for killed, at in kills):
            return "a request that began just after its replica was killed"
        return None

    def entry(self, exchange):
        """The line of the log: the one with the id in the answer, else the last one of the connection."""
        if exchange.request_id:
            return json.loads(self.by_id.get(exchange.request_id, "{}"))
        return json.loads(self.by_host.get(exchange.host, "{}"))

    def home(self, session):
        """The endpoint that has opened the session."""
        if session.home is None:
            session.home = json.loads(self.by_id.get(session.opened_by, "{}")).get("endpoint")
        return session.home

    def told(self, exchange):
        left_out = ("client", "host", "duration_ms")
        entry = " ".join(f"{key}={value}" for key, value in self.entry(exchange).items() if key not in left_out)
        kills = ", ".join(f"{killed} {exchange.ended - at:.3f} s before" for killed, at in self.fleet.kills if exchange.ended - at < 60)
        home = f"; the session of {self.home(exchange.session)}, {exchange.ended - exchange.session.begun:.1f} s old" if exchange.session else ""
        return (f"{exchange.kind}: {exchange.what}, {exchange.ended - exchange.begun:.3f} s on {exchange.host}: "
                f"{type(exchange.error).__name__}: {exchange.error}{home}; the edge's log: {entry or 'no line'}; kills: {kills or 'none'}")

    def keep(self, text):
        with open(self.path, "a") as file:
            file.write(f"{text}\n")

    def show(self, text):
        """Keeps the text for the report, unless there are enough like it."""
        alike = re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", text)[:120]
        self.alike[alike] += 1
        if len(self.shown) < SHOWN and self.alike[alike] <= SHOWN_ALIKE:
            self.shown.append(text)
            print(f"unexpected: {text[:200]}", flush=True)

    def table(self):
        rows = [f"{'':<18}{'good':>10}{'expected failures':>20}{'unexpected':>12}"]
        for kind in sorted({*self.good, *self.expected, *self.unexpected}):
            rows.append(f"{kind:<18}{self.good[kind]:>10,}{self.expected[kind]:>20,}{self.unexpected[kind]:>12,}")
        rows.append(f"{'all':<18}{self.good.total():>10,}{self.expected.total():>20,}{self.unexpected.total():>12,}")
        for title, counts in (("expected failures by cause", self.causes), ("also seen", self.notes)):
            rows += ["", f"{title}:"] + [f"{count:>9,}  {text}" for text, count in counts.most_common()]
        return "\n".join(rows)
