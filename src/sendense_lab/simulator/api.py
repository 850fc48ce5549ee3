"""A request from its parameters to its answer: let in or refused, read, done.

The order is the server's: whether a command exists is looked at before the signature, and what is
unknown gets the answer of a wrong signature; what a role lacks is told only after.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sendense_lab.simulator import catalogue, parameters, roles, sessions, signing
from sendense_lab.simulator.call import Call, Caller, page
from sendense_lab.simulator.catalogue import Body, Command, Work
from sendense_lab.simulator.errors import (
    INTERNAL,
    TOO_MANY,
    UNSUPPORTED,
    ApiError,
    masked,
    not_verified,
)
from sendense_lab.simulator.events import Events
from sendense_lab.simulator.jobs import Jobs
from sendense_lab.simulator.machines import MachineError, Machines
from sendense_lab.simulator.records import Account, KeyPairOfUser, User
from sendense_lab.simulator.sessions import Sessions
from sendense_lab.simulator.world import World


@dataclass(frozen=True)
class Reply:
    """An answer before it is bytes."""

    key: str
    body: Body
    status: int = 200
    text: str = ""
    """Of an error, for the header."""
    cookies: tuple[str, ...] = ()


class Api:
    """The API of one management server."""

    def __init__(self, world: World, machines: Machines, jobs: Jobs, events: Events) -> None:
        self.world = world
        self.machines = machines
        self.jobs = jobs
        self.events = events
        self.sessions = Sessions(world)
        self._recent: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self.read_settings()

    def read_settings(self) -> None:
        """Read what counts from the start of the server only."""
        setting = self.world.is_set("enforce.post.requests.and.timestamps")
        self._enforced = setting and self.world.since("4.21")

    def answer(
        self, first: Mapping[str, str], last: Mapping[str, str], method: str,
        cookies: Mapping[str, str],
    ) -> Reply:  # fmt: skip
        """Answer a request. `first` and `last` differ where a parameter came twice."""
        name = _of(first, "command")
        if name in sessions.COMMANDS:
            return self._of_sessions(name, first, cookies, method)
        found = catalogue.find(name, self.world)
        key = found.key if found else "errorresponse"
        try:
            caller, command = self._let_in(found, first, method, cookies)
            return Reply(key, self._do(caller, command, last))
        except ApiError as error:
            return Reply(key, error.body(), error.code, error.text)
        except Exception as error:  # noqa: BLE001 - a client is owed an answer, whatever broke
            broken = ApiError(INTERNAL, f"{type(error).__name__}: {error}")
            return Reply(key, broken.body(), broken.code, broken.text)

    # Who asks

    def _of_sessions(
        self, command: str, params: Mapping[str, str], cookies: Mapping[str, str], method: str
    ) -> Reply:
        """Begin or end a session: these two stand before all others, and need no signature."""
        key = f"{command}response"
        try:
            if command == "logout":
                return Reply(key, self.sessions.logout(params, cookies))
            session, body = self.sessions.login(params, cookies, method)
        except ApiError as error:
            return Reply(key, error.body(), error.code, error.text)
        return Reply(key, body, cookies=session.cookies)

    def _let_in(
        self, found: Command | None, params: Mapping[str, str], method: str,
        cookies: Mapping[str, str],
    ) -> tuple[Caller, Command]:  # fmt: skip
        session = self.sessions.of(cookies)
        if session is not None:
            caller = self.sessions.caller(session, params, cookies)
            if found is None:
                raise _not_there(_of(params, "command"), caller)
        elif found is None:
            raise not_verified()
        else:
            caller = self.caller(found, params, method)
        self._throttle(caller)
        self._check_role(caller, found)
        return caller, found

    def caller(self, command: Command, params: Mapping[str, str], method: str) -> Caller:
        """Tell whose request it is; everything that is wrong with that has one text."""
        pair = self.world.key(_of(params, "apikey"))
        given = _of(params, "signature")
        if pair is None or not given:
            raise not_verified()
        now = self.world.now()
        enforced = self._enforced
        instants = self.world.since("4.21")
        if not signing.in_time(params, now, enforced=enforced, instants=instants):
            raise not_verified()
        if enforced and command.changes and method != "POST":
            raise not_verified()
        if not signing.is_signed_by(params, given, pair.secret) or not _holds(pair, now):
            raise not_verified()
        user = self.world.get(User, pair.user_id)
        account = self.world.get(Account, user.account_id)
        if {user.state, account.state} != {"enabled"} or "disabled" in (
            user.api_access,
            account.api_access,
        ):
            raise not_verified()
        return Caller(user, account, tuple(pair.rules))

    def _check_role(self, caller: Caller, command: Command) -> None:
        world = self.world
        if not roles.allowed(world, caller.account, command) or not roles.allowed_by_key(
            list(caller.key_rules), command
        ):
            raise _not_there(command.name, caller)

    def _throttle(self, caller: Caller) -> None:
        if not self.world.is_set("api.throttling.enabled"):
            return
        most = int(self.world.settings["api.throttling.max"])
        span = float(self.world.settings["api.throttling.interval"])
        now = time.monotonic()
        with self._lock:
            recent = self._recent.setdefault(caller.account.id, deque())
            while recent and recent[0] <= now - span:
                recent.popleft()
            if len(recent) >= most:
                raise ApiError(
                    TOO_MANY,
                    f"The given user has reached his/her account api limit, please retry after "
                    f"{int(span * 1000)} ms.",
                )
            recent.append(now)

    # What is done

    def _do(self, caller: Caller, command: Command, params: Mapping[str, str]) -> Body:
        parameters.check_text(params)
        try:
            with self.world.lock:
                args = parameters.bind(self.world, command.name, command.params, params)
                call = Call(
                    self.world, self.machines, self.jobs, caller, command, args, dict(params),
                    self.events,
                )  # fmt: skip
                if any(param.name == "pagesize" for param in command.params):
                    page(call)
                done = command.run(call)
                if isinstance(done, Work):
                    return self._submit(call, done)
                return done
        except MachineError as error:
            broken = ApiError(INTERNAL, str(error))
            raise broken if caller.is_admin else masked(broken) from error
        except ApiError as error:
            raise error if caller.is_admin else masked(error) from None

    def _submit(self, call: Call, work: Work) -> Body:
        account, user = call.caller.account, call.caller.user
        started: list[str] = []

        def told(state: str, level: str) -> None:
            if not work.event:
                return
            words = {
                "Scheduled": "",
                "Started": "starting ",
                "Completed": "Successfully completed ",
            }
            prefix = "Error while " if level == "ERROR" else words[state]
            event = self.events.add(
                work.event, f"{prefix}{work.words}", account_id=work.owner or account.id,
                user_id=user.id, about=work.about, state=state, level=level,
                parent=started[0] if started else "",
            )  # fmt: skip
            if state == "Started":
                started.append(event.id)

        job = self.jobs.submit(
            work, account_id=account.id, user_id=user.id,
            java=call.command.java_class(by_admin=call.caller.is_admin),
            wanted_id=_of(call.given, "customjobid"), for_admin=call.caller.is_admin, told=told,
        )  # fmt: skip
        return {"id": work.object_id, "jobid": job.id} if work.object_id else {"jobid": job.id}


def _of(params: Mapping[str, str], name: str) -> str:
    """Give a parameter whose name came in any case."""
    return next((value for key, value in params.items() if key.lower() == name), "")


def _not_there(command: str, caller: Caller) -> ApiError:
    return ApiError(
        UNSUPPORTED,
        f"The API [{command}] does not exist or is not available for the account "
        f"{caller.account.name}.",
    )


def _holds(pair: KeyPairOfUser, now: datetime) -> bool:
    return (pair.starts is None or pair.starts <= now) and (pair.ends is None or now < pair.ends)
