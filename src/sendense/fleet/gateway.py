"""The gateway: an OpenSSH server of our own that agents dial, which can do nothing but forward.

It is a child of the control plane with its own configuration, host keys and log, and has nothing
to do with the machine's SSH server.  It never runs as root: a flaw in it gives nobody more than
its account.  Agents' sessions are processes of their own, so a server that is restarted drops no
tunnel.

Keys are one file that is replaced whole and read at each login: no reload.  Taking a key away
also ends the sessions it has (:mod:`sendense.fleet.gateway_sessions`).
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from sendense import clock
from sendense.errors import NotFound, Rejected, Unavailable, Unsupported
from sendense.fleet.gateway_config import (
    HOST_KEYS,
    KEYS_FILE,
    AgentKey,
    GatewaySettings,
    authorized_keys,
    fingerprint,
    server_config,
)
from sendense.fleet.gateway_files import GatewayFolder, account_entry, default_account
from sendense.fleet.gateway_sessions import (
    Peer,
    end_all,
    end_sessions,
    ended_peer,
    login_of,
    sockets_of,
    taken_port,
)
from sendense.fleet.gateway_sockets import tune_listeners

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""How often the log is read, and the server looked at."""
_START_S = 15.0
_TUNE_S = 0.01
_BACK_OFF_S = (0.5, 30.0)
_SETTLED_S = 60.0
"""A server that ran for so long did start well."""
_END_S = 3.0
_LOG_MOST = 4 << 20
_ANSWER_S = 3.0


class Gateway:
    """The control plane's SSH server; :meth:`start` it, give it keys, :meth:`stop` it."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Prepare; nothing runs yet."""
        self._settings = settings
        self._account = settings.account or default_account()
        self._files = GatewayFolder(settings.folder, self._account)
        # Resolved, as the kernel names open files so.
        self._log_file = settings.folder.resolve() / "sshd.log"
        self._lock = threading.RLock()
        self._keys: dict[str, AgentKey] = {}
        self._known: frozenset[str] = frozenset()
        """Fingerprints of these keys."""
        self._sessions: dict[Peer, str] = {}
        """Fingerprint of each connection that is logged in."""
        self._stopping = threading.Event()
        self._ready = threading.Event()
        """The server listens, and its listeners are set."""
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._read_to = 0

    @property
    def settings(self) -> GatewaySettings:
        """Give how it is set up."""
        return self._settings

    @property
    def account(self) -> str:
        """Give the account that agents log in as."""
        return self._account

    @property
    def pid(self) -> int | None:
        """Give the server's process, where it runs."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    # --- Life

    def start(self) -> None:
        """Start the server; raises where it does not answer within some seconds."""
        if self._thread is not None:
            return
        self._prepare()
        self._stopping.clear()
        self._ready.clear()
        self._thread = threading.Thread(target=self._watch, name="gateway", daemon=True)
        self._thread.start()
        deadline = clock.monotonic() + _START_S
        while not (self._ready.is_set() and self.healthy()):
            if clock.monotonic() > deadline:
                self.stop()
                said = self._last_words() or f"see {self._log_file}"
                raise Unavailable(
                    f"the gateway does not come up on port {self._settings.port}: {said}",
                    hint="a port that another program has, or that needs root: set gateway_listen",
                )
            clock.sleep(0.05)

    def stop(self) -> None:
        """End the server and all sessions."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        end_all(self._log_file)

    def reload(self, settings: GatewaySettings) -> None:
        """Take other settings (not another folder or account); tunnels stay."""
        if (settings.folder, settings.account) != (self._settings.folder, self._settings.account):
            raise Rejected("folder and account of the gateway change with a restart only")
        before, self._settings = self._settings, settings
        try:
            self._configure()
        except BaseException:
            self._settings = before
            self._configure()
            raise
        self.set_keys(tuple(self._keys.values()))
        process = self._process
        if process is not None and process.poll() is None:
            # It closes its listeners and begins anew, as the same process.
            old = sockets_of(ports=[before.port])
            process.send_signal(signal.SIGHUP)
            deadline = clock.monotonic() + _START_S
            while old & sockets_of(ports=[before.port]) and clock.monotonic() < deadline:
                clock.sleep(_TUNE_S)
            self._tune(process)

    def healthy(self) -> bool:
        """Tell whether the server runs and greets."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        address = next(iter(self._settings.addresses), "127.0.0.1")
        try:
            with socket.create_connection((address, self._settings.port), _ANSWER_S) as wire:
                return wire.recv(8).startswith(b"SSH-2.0-")
        except OSError:
            return False

    # --- Keys

    def host_keys(self) -> tuple[str, ...]:
        """Give the public keys that agents pin: ``ssh-ed25519 AAAA...``."""
        self._make_host_keys()
        texts = [self._files.read(f"{name}.pub") for name in HOST_KEYS]
        return tuple(" ".join(text.split()[:2]) for text in texts)

    def set_keys(self, keys: Sequence[AgentKey]) -> None:
        """Let exactly these agents in; sessions of keys or ports that are no more are ended."""
        text = authorized_keys(keys, self._settings.forward_address)
        with self._lock:
            before, self._keys = self._keys, {key.agent_id: key for key in keys}
            self._known = frozenset(fingerprint(key.public_key) for key in keys)
            self._files.prepare()
            self._files.write(KEYS_FILE, text)
            gone = [key for key in before.values() if self._keys.get(key.agent_id) != key]
        for key in gone:
            self._end(key)

    def revoke(self, agent_id: str) -> None:
        """Take an agent's key away, and end its sessions at once."""
        with self._lock:
            if agent_id not in self._keys:
                raise NotFound(f"the gateway knows no agent {agent_id}")
            self.set_keys([key for key in self._keys.values() if key.agent_id != agent_id])
        _log.info("the key of agent %s was taken away", agent_id)

    def _end(self, key: AgentKey) -> None:
        with self._lock:
            self._follow_log()
            mark = fingerprint(key.public_key)
            peers = [peer for peer, used in self._sessions.items() if used == mark]
            still = {port for other in self._keys.values() for port in other.ports}
            for peer in peers:
                del self._sessions[peer]
        # Ports as well: they are what the key was good for, whatever the log says.
        ended = self._kill(peers=peers, ports=set(key.ports) - still)
        if ended:
            _log.info("ended %d processes of sessions of agent %s", ended, key.agent_id)

    def _kill(self, *, peers: Collection[Peer], ports: Collection[int]) -> int:
        process = self._process
        spare = 0 if process is None else process.pid
        return end_sessions(self._log_file, peers=peers, ports=ports, spare=spare)

    # --- The thread that watches

    def _watch(self) -> None:
        """Keep the server running, and read what it says, until told to stop."""
        pause = _BACK_OFF_S[0]
        while not self._stopping.is_set():
            begun = clock.monotonic()
            try:
                self._process = self._spawn()
            except OSError as error:
                _log.error("cannot start the gateway: %s", error)
            else:
                self._attend(self._process)
            if self._stopping.is_set():
                return
            if clock.monotonic() - begun > _SETTLED_S:
                pause = _BACK_OFF_S[0]
            said = self._last_words() or "it said nothing"
            _log.warning("the gateway ended (%s); starting it again in %.1f s", said, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _BACK_OFF_S[1])

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        self._tune(process)
        if process.poll() is None:
            # One that ended has not bound its port; whoever greets there is another program.
            self._ready.set()
        while process.poll() is None and not self._stopping.wait(_LOOK_S):
            with self._lock:
                self._follow_log()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with self._lock:
            self._follow_log()

    def _follow_log(self) -> None:
        """Read what was added to the log; begin it anew when it has become long."""
        try:
            added = self._added()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.error("cannot read what the gateway says: %s", error)
            return
        for line in added.decode(errors="replace").splitlines():
            self._heed(line)

    def _added(self) -> bytes:
        """Give the lines of the log that are new and whole."""
        with self._files.open(self._log_file.name, os.O_RDWR) as stream:
            stream.seek(self._read_to)
            added = stream.read(_LOG_MOST)
            whole = added[: added.rfind(b"\n") + 1]
            self._read_to += len(whole)
            if self._read_to > _LOG_MOST:
                # The server appends, so it goes on at the new end.
                os.ftruncate(stream.fileno(), 0)
                self._read_to = 0
        return whole

    def _heed(self, line: str) -> None:
        login = login_of(line)
        gone = ended_peer(line)
        taken = taken_port(line)
        if login is not None:
            _log.info("sshd: %s", line)
            self._sessions[login.peer] = login.fingerprint
            if login.fingerprint not in self._known:
                # It came in while its key was being taken away.
                self._kill(peers=[login.peer], ports=())
        elif gone is not None:
            self._sessions.pop(gone, None)
        elif taken is not None:
            # OpenSSH's own questions do not end it: they wait for a pause, and whoever tries the
            # port every few seconds leaves none (seen with 9.2).
            if self._kill(peers=(), ports=[taken]):
                _log.info("an agent came back for port %d: its old session was ended", taken)
        elif line.startswith(("error:", "fatal:")):
            _log.warning("sshd: %s", line)
        else:
            _log.debug("sshd: %s", line)

    def _tune(self, process: subprocess.Popen[bytes]) -> None:
        """Set what the server has no setting for, as soon as it listens."""
        settings = self._settings
        give_up_s = settings.alive_interval_s * (settings.alive_count + 1)
        deadline = clock.monotonic() + _START_S
        while process.poll() is None and clock.monotonic() < deadline:
            if tune_listeners(process.pid, settings.port, give_up_s=give_up_s):
                return
            # Often: what connects in between goes without.
            if self._stopping.wait(_TUNE_S):
                return

    # --- Files and processes

    def _prepare(self) -> None:
        self._files.prepare()
        left = end_all(self._log_file)
        if left:
            _log.warning("ended %d processes that an earlier gateway had left", left)
        self._make_host_keys()
        self._configure()
        with self._lock:
            text = authorized_keys(tuple(self._keys.values()), self._settings.forward_address)
            self._files.write(KEYS_FILE, text)
            self._files.write(self._log_file.name, "", to_account=True)
            self._read_to = 0
            self._sessions.clear()

    def _make_host_keys(self) -> None:
        self._files.prepare()
        for name, kind in HOST_KEYS.items():
            path = self._settings.folder / name
            if path.exists():
                continue
            fresh = path.with_name(f"{name}.new")
            for left in (fresh, fresh.with_name(f"{fresh.name}.pub")):
                left.unlink(missing_ok=True)
            words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "sendense-gateway"]
            _run([*words, "-f", str(fresh)])
            # The public half first: where the private one is, both are.
            for end in (".pub", ""):
                self._files.hand_over(f"{fresh.name}{end}", to_account=not end)
                Path(f"{fresh}{end}").replace(f"{path}{end}")

    def _configure(self) -> None:
        """Write the configuration, and let the server itself check it."""
        config = self._settings.folder / "sshd_config"
        check = [*self._drop(), _sshd(), "-t", "-f", str(config)]
        self._files.write(config.name, server_config(self._settings, self._account))
        self._require_way_to(config)
        try:
            _run(check)
        except Rejected:
            # An older server; what else is wrong with it shows again.
            text = server_config(self._settings, self._account, newest=False)
            self._files.write(config.name, text)
            _run(check)

    def _require_way_to(self, file: Path) -> None:
        """Have the account itself look, as lists of rights may give it more than modes tell."""
        try:
            _run([*self._drop(), "test", "-r", str(file)])
        except Rejected as error:
            closed = [folder for folder in file.parents if not folder.stat().st_mode & 0o001]
            raise Unsupported(
                f"the account {self._account} of the gateway cannot read {file}",
                hint=f"let it pass {closed[-1] if closed else 'the folders above'} (chmod o+x), "
                "or set another state_dir",
            ) from error

    def _spawn(self) -> subprocess.Popen[bytes]:
        config = self._settings.folder / "sshd_config"
        words = [*self._drop(), _sshd(), "-D", "-f", str(config), "-E", str(self._log_file)]
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def _drop(self) -> list[str]:
        """Give the words before a command that make it end with us, and without our rights."""
        words = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            entry = account_entry(self._account)
            keep = "-all,+net_bind_service" if self._settings.port < 1024 else "-all"
            words += [
                f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups",
                f"--inh-caps={keep}", f"--ambient-caps={keep}", "--no-new-privs",
            ]  # fmt: skip
        return [*words, "--"]

    def _last_words(self) -> str:
        try:
            lines = self._files.read(self._log_file.name).splitlines()
        except OSError:
            return ""
        return " ".join(lines[-2:])


def _sshd() -> str:
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotFound(
            "the program sshd is not installed",
            hint="install openssh-server; its own service can stay off",
        )
    return found


def _run(words: Sequence[str]) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise NotFound(
            f"the program {words[0]} is not installed", hint="install openssh-client, util-linux"
        ) from error
    except subprocess.CalledProcessError as error:
        raise Rejected(f"{Path(words[0]).name}: {error.stderr.strip()}") from error
