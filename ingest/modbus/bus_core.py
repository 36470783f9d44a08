"""The mind of one bus: what to send next, what to believe, when to be silent; pure, fed *now*.

    shell                            core
      step(now)  ───────────────────▶  Connect | Send | Wait | Close
      connected / received / timed_out / garbled / lost / stray  ──▶  decides
      take_results()  ◀──────────────  polls with registers or reasons

One bus is one physical line: one request at a time, one connection, one queue.  Times in seconds
are of one rising clock; times in microseconds are UTC and only stamped onto what came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from devices.codecs.registers import Read
from ingest.modbus.breaker import Breaker, BreakerSettings, SlaveState
from ingest.modbus.bus_status import BusCounters, BusStatus, SlaveStatus
from ingest.modbus.framing import Frame, Speech
from ingest.modbus.late_reply import LateReplies, Verdict
from ingest.modbus.poll_plan import PlannedRead, PollGroup
from ingest.modbus.reply import Answer, Failure, Reaction, check_reply, reaction
from ingest.modbus.request import ReadRequest, Request
from ingest.modbus.schedule import Schedule, Turn
from ingest.retry import Backoff

_MAX_JOBS = 64
_MAX_MISSED = 64
_REFUSED_AGAIN_S = 600.0
_DOWN_AGAIN_S = 60.0
_GRACE_S = 5.0
# A gateway that comes back is to be read again within seconds, and an attempt costs nothing.
_CONNECT_AGAIN_S = (0.1, 3.0)
_MUTE_PROBE_S = 2.0
_MUTE_RECONNECT_S = 10.0
_MAX_QUIETS = 5
_ANSWER_BYTES = 8


@dataclass(frozen=True, slots=True)
class SlavePlan:
    """One device on the bus and what it is asked for.

    *keys* are the points that feed series, where those are not all that its profile has.
    """

    device: str
    unit: int
    groups: tuple[PollGroup, ...]
    timeout_s: float
    pause_s: float = 0.0
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How a bus behaves.

    *endpoints* is how many addresses lead to it, the preferred one first.  *is_port* says that it
    is a serial port of this machine: silence is then no reason to open it again.  *quiet_s* is the
    silence after a reply was missed (None: as long as the timeout); *byte_s* what a byte takes on
    the wire, for question and answer come on top of the timeout.  *horizon_s* is how late a
    reply is thought possible.  *trusts_transactions* is switched off for gateways that answer with
    transaction numbers of their own; they are then treated like a line without numbers.
    """

    name: str
    speech: Speech
    endpoints: int = 1
    is_port: bool = False
    timeout_s: float = 1.0
    pause_s: float = 0.0
    byte_s: float = 0.0
    quiet_s: float | None = None
    horizon_s: float = 5.0
    retries: int = 1
    busy_retries: int = 3
    busy_pause_s: float = 0.2
    reconnect_after: int = 3
    primary_again_s: float = 300.0
    trusts_transactions: bool = True
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the connection to this endpoint."""

    endpoint: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; *text* says why."""

    text: str


class Send(msgspec.Struct, frozen=True):
    """Send this and wait for frames until the deadline."""

    request: Request
    transaction: int
    deadline_s: float


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Do nothing until then, or until something comes in."""

    until_s: float


Step = Connect | Close | Send | Wait


class PollResult(msgspec.Struct, frozen=True):
    """What one turn at one device brought."""

    device: str
    unit: int
    reads: tuple[Read, ...]
    keys: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every read was answered."""
        return not any(read.error for read in self.reads)


@dataclass(slots=True, eq=False)
class Job:
    """Requests that somebody wants asked between polls; *outcomes* fills up in their order.

    *timeout_s* None takes the bus's own.  When one goes without an answer the rest is not asked,
    unless *goes_on*.
    """

    requests: tuple[Request, ...]
    timeout_s: float | None = None
    goes_on: bool = False
    outcomes: list[Answer | Failure] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether every request has its outcome."""
        return len(self.outcomes) == len(self.requests)


@dataclass(slots=True, eq=False)
class _Slave:
    plan: SlavePlan
    breaker: Breaker
    since_s: float
    error: str = ""
    last_reply_at_us: int | None = None
    response_s: float | None = None
    refused: dict[ReadRequest, tuple[float, Failure]] = field(default_factory=dict)
    told_down_at_s: float | None = None


@dataclass(slots=True, eq=False)
class _Talk:
    """A turn under way: the reads still to ask, those done, and the tries left for this one."""

    slave: _Slave
    turn: Turn | None
    left: deque[PlannedRead]
    done: list[Read] = field(default_factory=list)
    retries: int = 0
    busy: int = 0
    resume_at_s: float = 0.0
    heard: bool = False


@dataclass(slots=True)
class _Waiting:
    request: Request
    transaction: int
    sent_at_s: float
    timeout_s: float
    is_sync: bool
    talk: _Talk | None
    job: Job | None


class BusCore:
    """Decides for one bus.  *chance* returns numbers from 0 to 1, for the jitter of reconnects."""

    def __init__(
        self,
        settings: BusSettings,
        slaves: Sequence[SlavePlan],
        now_s: float,
        chance: Callable[[], float],
        phase_s: float = 0.0,
    ) -> None:
        self.settings = settings
        self.counters = BusCounters()
        self._slaves = {
            plan.device: _Slave(plan, Breaker(settings.breaker), now_s) for plan in slaves
        }
        self._order = list(self._slaves)
        self._schedule = Schedule(
            Turn(plan.device, group.interval_s, group.reads, now_s + phase_s)
            for plan in slaves
            for group in plan.groups
        )
        self._backoff = Backoff(*_CONNECT_AGAIN_S, chance)
        self._started = False
        self._late = LateReplies(settings.horizon_s)
        self._quiet_s = settings.timeout_s if settings.quiet_s is None else settings.quiet_s
        self._connected = False
        self._endpoint = 0
        self._connect_at_s = now_s
        self._connected_at_s = now_s
        self._down_since_s = now_s
        self._error = "not connected yet"
        self._was_told = ""
        self._heard = False  # a reply came on this connection
        self._revive = False
        self._numbered: bool | None = None  # do frames carry our transaction numbers?
        self._transaction = 0
        self._missed: deque[int] = deque(maxlen=_MAX_MISSED)
        self._mute = 0  # requests in a row without any reply
        self._reconnected_at_s = now_s
        self._silent_until_s = now_s
        self._silent_since_s = now_s
        self._free_at_s = now_s
        self._waiting: _Waiting | None = None
        self._talk: _Talk | None = None
        self._parked: list[_Talk] = []
        self._jobs: deque[Job] = deque()
        self._job_next = False
        self._close: str | None = None
        self._results: list[PollResult] = []
        self._finished: list[Job] = []
        self._notices: list[str] = []

    # ---- what the shell asks ----------------------------------------------------------------

    def step(self, now_s: float) -> Step:
        """Return what to do now; call it again whenever that is done or something came in."""
        if not self._started:
            self._start(now_s)
        if self._close is not None:
            text = self._close
            self._drop(now_s, text)
            return Close(text)
        if not self._connected:
            return self._step_unconnected(now_s)
        assert self._waiting is None, "a reply is still being waited for"
        ready_s = max(self._silent_until_s, self._free_at_s)
        if now_s < ready_s:
            return Wait(ready_s)
        if self._back_to_primary(now_s):
            text = "trying the preferred endpoint again"
            self._drop(now_s, text)
            self._endpoint, self._connect_at_s = 0, now_s
            return Close(text)
        while True:
            if self._talk is None and self._job_is_next(now_s):
                return self._send_job(now_s)
            if self._talk is None:
                self._talk = self._next_talk(now_s)
            if self._talk is None:
                return self._send_job(now_s) if self._jobs else Wait(self._next_s(now_s))
            if step := self._send_talk(self._talk, now_s):
                return step

    def take_results(self) -> list[PollResult]:
        """Return the polls that ended since the last call."""
        results, self._results = self._results, []
        return results

    def take_finished(self) -> list[Job]:
        """Return the jobs that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def take_notices(self) -> list[str]:
        """Return what a person should read once: gone, back, refused."""
        notices, self._notices = self._notices, []
        return notices

    def add_job(self, job: Job) -> bool:
        """Queue *job*; False if the queue is full and it was refused."""
        if len(self._jobs) >= _MAX_JOBS:
            return False
        self._jobs.append(job)
        return True

    def drop_job(self, job: Job) -> None:
        """Forget *job*: whoever wanted it is gone."""
        if job in self._jobs:
            self._jobs.remove(job)

    def status(self) -> BusStatus:
        """Return the state of the bus and of its slaves."""
        self.counters.missed_turns = sum(turn.missed for turn in self._schedule.turns)
        slaves = tuple(
            SlaveStatus(
                device=slave.plan.device,
                unit=slave.plan.unit,
                state=slave.breaker.state,
                since_s=slave.since_s,
                last_reply_at_us=slave.last_reply_at_us,
                error=slave.error,
                refused=tuple(failure.text for _, failure in slave.refused.values()),
                response_s=slave.response_s,
            )
            for slave in self._slaves.values()
        )
        return BusStatus(
            self.settings.name,
            self._connected,
            self._endpoint,
            self._error,
            self.counters,
            slaves,
        )

    # ---- what the shell tells ---------------------------------------------------------------

    def connected(self, now_s: float) -> None:
        """The connection is open."""
        self.counters.connects += 1
        self._connected, self._error = True, ""
        self._heard, self._numbered = False, None
        self._connected_at_s = now_s
        self._missed.clear()
        self._mute = 0
        self._free_at_s = now_s
        if self._has_numbers:
            self._late = LateReplies(self.settings.horizon_s)
        elif self.counters.connects > 1:
            self._be_silent(now_s)
        self._revive = True
        self._probe_one_soon(now_s)

    def connect_failed(self, now_s: float, text: str) -> None:
        """There is no connection; another endpoint is tried where there is one."""
        self.counters.connect_failures += 1
        self._error = text
        self._endpoint = (self._endpoint + 1) % self.settings.endpoints
        self._connect_at_s = now_s + self._backoff.failed(now_s)
        self._tell_lost(text)

    def lost(self, now_s: float, at_us: int, text: str) -> None:
        """The other side closed, or the port is gone."""
        failure = Failure("E-MB-LINK", text)
        self._fail_waiting(failure, now_s, at_us, may_retry=False, counts=False)
        if self._connected:
            self._drop(now_s, text)

    def received(self, frame: Frame, now_s: float, at_us: int) -> bool:
        """Judge a frame; return whether the request that waits is over."""
        waiting = self._waiting
        if waiting is None:
            self.stray(frame, now_s)
            return True
        if not self._is_ours(frame, waiting, now_s, at_us):
            return self._waiting is None
        outcome = check_reply(waiting.request, frame.unit, frame.pdu)
        if isinstance(outcome, Failure) and not outcome.refused:
            self._mismatch(outcome, now_s, at_us)
            return True
        self._hear(now_s, at_us)
        self._waiting = None
        self._settle(waiting, outcome, now_s, at_us)
        return True

    def garbled(self, code: str, text: str, now_s: float, at_us: int) -> None:
        """Bytes came that are no frame; what they were is unknown, so the reply is still owed."""
        self.counters.garbled += 1
        if self.settings.speech is Speech.TCP:
            self._close = f"{code} {text}"
        self._be_silent(now_s)
        waiting = self._waiting
        if waiting is not None:
            failure = Failure(code, f"unit {waiting.request.unit}: {text}")
            self._fail_waiting(failure, now_s, at_us, may_retry=self._close is None)

    def timed_out(self, now_s: float, at_us: int) -> None:
        """The deadline passed without the reply."""
        waiting = self._waiting
        assert waiting is not None, "nothing was waited for"
        self.counters.timeouts += 1
        text = f"unit {waiting.request.unit} after {waiting.timeout_s:.2f} s"
        if waiting.job is None:
            self._mute += 1
        self._close_if_mute(now_s)
        failure = Failure("E-MB-TIMEOUT", text)
        self._fail_waiting(failure, now_s, at_us, may_retry=self._close is None)

    def stray(self, frame: Frame | None, now_s: float) -> None:
        """Something came while nothing was asked; None for bytes that are no frame."""
        if frame is not None and not self._has_numbers:
            verdict = self._late.judge(None, frame.unit, frame.pdu, now_s)
            if verdict is Verdict.LATE:
                self.counters.late_replies += 1
                self._be_silent(now_s)
                return
        elif frame is not None and frame.transaction in self._missed:
            self.counters.late_replies += 1
            return
        self.counters.strays += 1
        self._be_silent(now_s)

    def _start(self, now_s: float) -> None:
        """Begin the grid of the turns now: between making a bus and running it time may pass."""
        self._started = True
        late_s = now_s - self._connect_at_s
        for turn in self._schedule.turns:
            turn.due_at_s += late_s
        self._connect_at_s = self._down_since_s = now_s

    # ---- connecting -------------------------------------------------------------------------

    def _step_unconnected(self, now_s: float) -> Step:
        if now_s >= self._connect_at_s:
            return Connect(self._endpoint)
        for job in (*self._jobs,):
            self._end_job(job, Failure("E-MB-LINK", f"not connected: {self._error}"))
        if now_s - self._down_since_s >= _GRACE_S:
            self._report_unreachable(now_s)
        return Wait(self._connect_at_s)

    def _drop(self, now_s: float, text: str) -> None:
        """Forget the connection; the shell closes it."""
        self.counters.losses += 1
        self._connected, self._error = False, text
        self._down_since_s = now_s
        self._waiting = self._close = None
        if not self._heard:
            self._endpoint = (self._endpoint + 1) % self.settings.endpoints
        self._connect_at_s = now_s + self._backoff.failed(now_s)
        for talk in (*self._parked, *([self._talk] if self._talk else [])):
            self._end_talk(talk, Failure("E-MB-LINK", f"connection lost: {text}"), now_s)
        self._parked.clear()
        self._talk = None
        self._tell_lost(text)

    def _tell_lost(self, text: str) -> None:
        if not self._was_told:
            self._notices.append(f"bus {self.settings.name}: not connected: {text}")
        self._was_told = text

    def _back_to_primary(self, now_s: float) -> bool:
        return (
            self._endpoint != 0
            and self._talk is None
            and now_s - self._connected_at_s >= self.settings.primary_again_s
        )

    def _close_if_mute(self, now_s: float) -> None:
        """A connection on which nobody answers any more may be dead without saying so."""
        if self.settings.is_port or self._mute < self.settings.reconnect_after:
            return
        if self._heard or now_s - self._reconnected_at_s >= _MUTE_RECONNECT_S:
            self._reconnected_at_s = now_s
            self._close = f"no reply to {self._mute} requests"
            self._mute = 0

    def _report_unreachable(self, now_s: float) -> None:
        """Without a connection, polls that are due become reasons: at most one a minute.

        A connection that comes back within moments lets them be polled, only later.
        """
        while turn := self._schedule.due(now_s, lambda _: 0):
            slave = self._slaves[turn.device]
            turn.take(now_s)
            told = slave.told_down_at_s
            if told is not None and now_s - told < max(_DOWN_AGAIN_S, turn.interval_s):
                continue
            slave.told_down_at_s = now_s
            failure = Failure("E-MB-LINK", f"bus not connected: {self._error}")
            slave.error = f"{failure.code} {failure.text}"
            self._publish(slave, [(read, failure) for read in turn.reads], [])

    # ---- choosing ---------------------------------------------------------------------------

    def _rank(self, device: str) -> int | None:
        """Healthy devices first, those that failed last time after them, set aside ones never."""
        state = self._slaves[device].breaker.state
        return None if state is SlaveState.DOWN else int(state is SlaveState.SUSPECT)

    def _next_talk(self, now_s: float) -> _Talk | None:
        for talk in self._parked:
            if talk.resume_at_s <= now_s:
                self._parked.remove(talk)
                return talk
        busy = [talk.slave.plan.device for talk in self._parked] if self._parked else ()
        if turn := self._schedule.due(now_s, self._rank, busy):
            turn.take(now_s)
            slave = self._slaves[turn.device]
            return _Talk(slave, turn, deque(turn.reads), retries=self.settings.retries)
        return self._next_probe(now_s)

    def _next_probe(self, now_s: float) -> _Talk | None:
        """Return a probe of the slave that waits longest, where it delays nobody."""
        due = [
            slave
            for slave in self._slaves.values()
            if slave.breaker.is_open and slave.breaker.probe_at_s <= now_s and slave.plan.groups
        ]
        if not due:
            return None
        slave = min(due, key=lambda one: one.breaker.probe_at_s)
        room_until_s = self._schedule.next_due_s(self._rank)
        cost_s = slave.plan.timeout_s + (0 if self._has_numbers else self._quiet_s)
        overdue_s = now_s - slave.breaker.probe_at_s
        tight = room_until_s is not None and now_s + cost_s > room_until_s
        if tight and overdue_s < self.settings.breaker.probe_max_s:
            return None
        self.counters.probes += 1
        return _Talk(slave, None, deque(self._reads_of(slave)[:1]))

    def _probe_one_soon(self, now_s: float) -> None:
        """After a repair of the line, ask one of those that were set aside, in turn."""
        for _ in self._order:
            self._order.append(self._order.pop(0))
            slave = self._slaves[self._order[-1]]
            if slave.breaker.is_open:
                slave.breaker.probe_soon(now_s)
                return

    def _next_s(self, now_s: float) -> float:
        times = [talk.resume_at_s for talk in self._parked]
        if (due_s := self._schedule.next_due_s(self._rank)) is not None:
            times.append(due_s)
        probes = [one.breaker.probe_at_s for one in self._slaves.values() if one.breaker.is_open]
        times += [at_s for at_s in probes if at_s > now_s]  # one that is due waits for room
        if self._endpoint:
            times.append(self._connected_at_s + self.settings.primary_again_s)
        return max(min(times, default=now_s + 60.0), now_s)

    def _job_is_next(self, now_s: float) -> bool:
        """Polls and jobs take turns, so that neither starves the other."""
        return bool(self._jobs) and self._job_next

    # ---- sending ----------------------------------------------------------------------------

    @property
    def _has_numbers(self) -> bool:
        """Whether replies say which request they answer, as far as is known."""
        if self.settings.speech is not Speech.TCP or not self.settings.trusts_transactions:
            return False
        return self._numbered is not False

    def _send_talk(self, talk: _Talk, now_s: float) -> Step | None:
        """Return the next request of *talk*, None when it has none left or may not send it."""
        while talk.left and talk.turn is not None:  # a probe asks whatever was refused before
            planned = talk.left[0]
            refusals = talk.slave.refused
            refused = refusals.get(planned.request) if refusals else None
            if refused is None or now_s >= refused[0]:
                break
            talk.left.popleft()
            talk.done.append(_failed(planned.request, refused[1], 0))
        if not talk.left:
            self._finish_talk(talk, now_s)
            return None
        request = talk.left[0].request
        return self._send(request, talk.slave.plan.timeout_s, now_s, talk=talk)

    def _send_job(self, now_s: float) -> Step:
        self._job_next = False
        job = self._jobs[0]
        request = job.requests[len(job.outcomes)]
        timeout_s = job.timeout_s or self.settings.timeout_s
        step = self._send(request, timeout_s, now_s, job=job)
        return step or Wait(now_s)

    def _send(
        self,
        request: Request,
        timeout_s: float,
        now_s: float,
        talk: _Talk | None = None,
        job: Job | None = None,
    ) -> Send | None:
        is_sync = False
        if not self._numbers_are_proven and self._late.owes(request.unit, now_s):
            others = self._asked_of(talk.slave) if talk is not None else []
            clearance = self._late.clearance(request, others, now_s)
            if clearance.rest_until_s is not None:
                rest_s = clearance.rest_until_s - now_s
                text = f"unit {request.unit} rests {rest_s:.1f} s: an older reply may still come"
                failure = Failure("E-MB-LATE", text)
                if talk is not None:
                    self._end_talk(talk, failure, now_s, counts=True)
                    self._talk = None
                if job is not None:
                    self._end_job(job, failure)
                return None
            if clearance.sync is not None:
                request, is_sync = clearance.sync, True
                self.counters.syncs += 1
        timeout_s += self._wire_s(request)
        self.counters.requests += 1
        self._transaction = self._transaction % 65_535 + 1
        self._waiting = _Waiting(request, self._transaction, now_s, timeout_s, is_sync, talk, job)
        return Send(request, self._transaction, now_s + timeout_s)

    def _wire_s(self, request: Request) -> float:
        """Return how long question and answer travel on a slow line."""
        data = request.data_bytes if isinstance(request, ReadRequest) else 0
        return self.settings.byte_s * (len(request.pdu) + 3 + _ANSWER_BYTES + data)

    def _asked_of(self, slave: _Slave) -> list[ReadRequest]:
        """Return reads that the slave is known to answer, and shorter ones of them."""
        return [
            request
            for read in self._reads_of(slave)
            if read.request not in slave.refused
            for request in (read.request, *read.shorter())
        ]

    def _reads_of(self, slave: _Slave) -> list[PlannedRead]:
        device = slave.plan.device
        return [
            read for turn in self._schedule.turns if turn.device == device for read in turn.reads
        ]

    @property
    def _numbers_are_proven(self) -> bool:
        return self._has_numbers and self._numbered is True

    # ---- judging ----------------------------------------------------------------------------

    def _is_ours(self, frame: Frame, waiting: _Waiting, now_s: float, at_us: int) -> bool:
        """Whether the frame answers the request that waits; else it was dealt with here."""
        if self._has_numbers:
            if frame.transaction == waiting.transaction:
                self._numbered = True
                return True
            if frame.transaction in self._missed:
                self.counters.late_replies += 1
                return False
            if frame.transaction == 0 and self._numbered is None:
                self._numbered = False
            else:
                expected = waiting.transaction
                text = f"expected transaction {expected} got {frame.transaction}"
                if self._numbered is None:
                    text += " (a gateway with numbers of its own needs transaction_numbers: false)"
                self._mismatch(Failure("E-MB-TID", text), now_s, at_us)
                return False
        if self.settings.speech is Speech.TCP:
            self.counters.zero_transactions += 1
        verdict = self._late.judge(waiting.request, frame.unit, frame.pdu, now_s)
        if verdict is Verdict.LATE:
            self.counters.late_replies += 1
            return False
        return True

    def _mismatch(self, failure: Failure, now_s: float, at_us: int) -> None:
        """A reply nobody asked for: nothing on this connection can be trusted any more."""
        self.counters.mismatches += 1
        self._be_silent(now_s)
        if not self.settings.is_port:
            self._close = f"{failure.code} {failure.text}"
        self._fail_waiting(failure, now_s, at_us, may_retry=self.settings.is_port)

    def _hear(self, now_s: float, at_us: int) -> None:
        self.counters.replies += 1
        self._heard = True
        self._mute = 0
        self._backoff.succeeded()
        if self._was_told:
            self._notices.append(f"bus {self.settings.name}: connected again")
            self._was_told = ""
        if self._revive:
            self._revive = False
            for slave in self._slaves.values():
                slave.breaker.probe_soon(now_s)

    def _settle(
        self, waiting: _Waiting, outcome: Answer | Failure, now_s: float, at_us: int
    ) -> None:
        """Put an answer or a refusal where it belongs."""
        self._rest(waiting, now_s)
        if isinstance(outcome, Failure):
            self.counters.refusals += 1
        talk, job = waiting.talk, waiting.job
        if waiting.is_sync:
            return  # it has done its work by being answered; the request itself goes next
        if job is not None:
            self._settle_job(job, outcome)
        elif talk is not None:
            took_s = now_s - waiting.sent_at_s
            old_s = talk.slave.response_s
            talk.slave.response_s = took_s if old_s is None else 0.9 * old_s + 0.1 * took_s
            if isinstance(outcome, Answer):
                self._answered(talk, outcome, now_s, at_us)
            else:
                self._refused(talk, outcome, now_s, at_us)

    def _answered(self, talk: _Talk, answer: Answer, now_s: float, at_us: int) -> None:
        request = talk.left.popleft().request
        talk.heard = True
        if talk.slave.refused:
            talk.slave.refused.pop(request, None)
        talk.slave.last_reply_at_us = at_us
        talk.done.append(Read(request.function, request.address, request.count, at_us, answer.data))
        talk.busy = 0
        if not talk.left:
            self._finish_talk(talk, now_s)

    def _refused(self, talk: _Talk, failure: Failure, now_s: float, at_us: int) -> None:
        planned = talk.left[0]
        means = reaction(failure.refused)
        if means is Reaction.AGAIN and talk.busy < self.settings.busy_retries:
            self.counters.busy += 1
            talk.busy += 1
            talk.resume_at_s = now_s + self.settings.busy_pause_s
            self._parked.append(talk)
            self._talk = None
            return
        if means is Reaction.DEAD:
            self._end_talk(talk, failure, now_s, at_us, counts=True)
            self._talk = None
            return
        talk.heard = True
        talk.slave.last_reply_at_us = at_us
        if failure.refused == 2 and planned.has_gaps and talk.turn is not None:
            self._take_apart(talk, planned)
            return
        if means is Reaction.OURS:
            failure = _with_line(failure, planned)
            if planned.request not in talk.slave.refused:
                self._notices.append(f"device {talk.slave.plan.device}: {failure.text}")
            talk.slave.refused[planned.request] = (now_s + _REFUSED_AGAIN_S, failure)
        talk.left.popleft()
        talk.done.append(_failed(planned.request, failure, at_us))
        talk.busy = 0
        if not talk.left:
            self._finish_talk(talk, now_s)

    def _take_apart(self, talk: _Talk, planned: PlannedRead) -> None:
        """A read across unused registers was refused: ask for the parts from now on."""
        parts = planned.parts()
        turn = talk.turn
        assert turn is not None
        turn.reads = tuple(
            part for read in turn.reads for part in (parts if read is planned else (read,))
        )
        talk.left.popleft()
        talk.left.extendleft(reversed(parts))
        device = talk.slave.plan.device
        self._notices.append(
            f"device {device}: refuses {planned.request} because of a register between those it "
            f"has; read in {len(parts)} parts instead (name it under limits.illegal)"
        )

    def _fail_waiting(
        self, failure: Failure, now_s: float, at_us: int, may_retry: bool, counts: bool = True
    ) -> None:
        """The request that waits ends without its reply, which may yet come."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        self._rest(waiting, now_s)
        self._missed.append(waiting.transaction)
        if not self._numbers_are_proven:
            self._late.missed(waiting.request, now_s)
            self._be_silent(now_s)
        talk, job = waiting.talk, waiting.job
        if job is not None:
            self._settle_job(job, failure)
        elif talk is not None:
            healthy = talk.slave.breaker.failures == 0 and talk.turn is not None
            if may_retry and healthy and talk.retries > 0:
                talk.retries -= 1
                return
            self._end_talk(talk, failure, now_s, at_us, counts=counts)
            self._talk = None

    def _rest(self, waiting: _Waiting, now_s: float) -> None:
        pause_s = self.settings.pause_s
        if waiting.talk is not None:
            pause_s = max(pause_s, waiting.talk.slave.plan.pause_s)
        self._free_at_s = now_s + pause_s

    def _be_silent(self, now_s: float) -> None:
        """Keep off the line until nothing has come for a while; a babbling line is left."""
        if self._has_numbers and self._numbered is True:
            return
        if now_s >= self._silent_until_s:
            self._silent_since_s = now_s
        self._silent_until_s = now_s + self._quiet_s
        babbles = now_s - self._silent_since_s > _MAX_QUIETS * self._quiet_s
        if babbles and not self.settings.is_port and self._connected:
            self._close = "the line is never silent"

    # ---- ending -----------------------------------------------------------------------------

    def _finish_talk(self, talk: _Talk, now_s: float) -> None:
        """All reads of a talk have been asked; the slave is there."""
        self._talk = None
        self._job_next = True
        slave = talk.slave
        slave.told_down_at_s = None
        if talk.heard:
            before = slave.breaker.state
            if slave.breaker.succeed():
                self._notices.append(f"device {slave.plan.device}: answers again")
            if before is not SlaveState.UP:
                slave.since_s = now_s
        if talk.turn is None:
            for turn in self._schedule.turns:
                if turn.device == slave.plan.device:
                    turn.catch_up(now_s)
            return
        failed = [read for read in talk.done if read.error]
        slave.error = f"{failed[0].error} {failed[0].text}" if failed else ""
        self._publish(slave, [], talk.done)

    def _end_talk(
        self,
        talk: _Talk,
        failure: Failure,
        now_s: float,
        at_us: int = 0,
        counts: bool = False,
    ) -> None:
        """Give up a talk: what was not answered gets the reason, what was keeps its registers."""
        self._job_next = True
        slave = talk.slave
        slave.error = f"{failure.code} {failure.text}"
        if counts:
            before = slave.breaker.state
            if slave.breaker.fail(now_s):
                self._notices.append(
                    f"device {slave.plan.device}: set aside after {slave.breaker.failures} "
                    f"failures: {failure.code} {failure.text}"
                )
            if slave.breaker.state is not before:
                slave.since_s = now_s
            if slave.breaker.is_open and all(one.breaker.is_open for one in self._slaves.values()):
                # Nobody is left to be delayed: look for the first sign of life more often, and
                # take it for a sign that the others may be back too.
                self._revive = True
                # On lines without numbers each probe in vain uses up one look of a reply (see
                # late_reply); this pace leaves one free.
                soon_s = now_s + max(_MUTE_PROBE_S, self.settings.horizon_s / 3)
                slave.breaker.probe_at_s = min(slave.breaker.probe_at_s, soon_s)
        left = list(talk.left)
        if talk.turn is None:
            left = self._reads_of(slave)
        self._publish(slave, [(read, failure) for read in left], talk.done, at_us)

    def _publish(
        self,
        slave: _Slave,
        failed: Sequence[tuple[PlannedRead, Failure]],
        done: Sequence[Read],
        at_us: int = 0,
    ) -> None:
        reads = (*done, *(_failed(read.request, failure, at_us) for read, failure in failed))
        if reads:
            plan = slave.plan
            self._results.append(PollResult(plan.device, plan.unit, reads, plan.keys))

    def _settle_job(self, job: Job, outcome: Answer | Failure) -> None:
        job.outcomes.append(outcome)
        if isinstance(outcome, Failure) and not outcome.refused and not job.goes_on:
            skipped = Failure(outcome.code, f"not asked: {outcome.text}")
            missing = len(job.requests) - len(job.outcomes)
            job.outcomes += [skipped] * missing
        if job.is_done:
            if job in self._jobs:
                self._jobs.remove(job)
            self._finished.append(job)

    def _end_job(self, job: Job, failure: Failure) -> None:
        job.outcomes += [failure] * (len(job.requests) - len(job.outcomes))
        if job in self._jobs:
            self._jobs.remove(job)
        self._finished.append(job)


def _failed(request: ReadRequest, failure: Failure, at_us: int) -> Read:
    """Return the read without registers; the shell stamps it where *at_us* is 0."""
    return Read(
        request.function,
        request.address,
        request.count,
        at_us,
        error=failure.code,
        text=failure.text,
    )


def _with_line(failure: Failure, planned: PlannedRead) -> Failure:
    lines = sorted(set(planned.lines.values()))
    if not lines:
        return failure
    where = f"line {lines[0]}" if len(lines) == 1 else f"lines {lines[0]}-{lines[-1]}"
    return Failure(failure.code, f"{failure.text} {where}", failure.refused)
