"""Processes: commands that run to their end, and daemons that outlive this program."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HEARTBEAT_SECONDS = 8  # so that no command is silent for more than 10
# The environment of sam build, and of the programs next to the functions, so that each package is compiled once. sam
# build runs without --cached, which looks for changes in a function's own folder only, and would miss those in internal/.
GO = {"CGO_ENABLED": "0", "GOFLAGS": os.environ.get("GOFLAGS", "") + " -trimpath -tags=lambda.norpc -ldflags=-s"}
START_SECONDS = 120  # on a busy machine, the imports of the emulator alone may take half a minute
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # past any proxy


class Failed(Exception):
    """A message for the user; the program ends with it."""


def say(text):
    print(f"{sys.argv[1]}: {text}", flush=True)


@contextlib.contextmanager
def heartbeat(what, announce=True):
    """Prints what, unless announce is false, then again with the elapsed time every few seconds until the block ends."""
    if announce:
        say(what)
    ended, began = threading.Event(), time.monotonic()

    def beat():
        while not ended.wait(HEARTBEAT_SECONDS):
            say(f"{what} ({time.monotonic() - began:.0f} s)")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Task:
    """A command that runs in its own process group, and ends at the latest with the block: with Task(…) as task.

    Its output goes to the file log, or to the terminal if log is None.
    """

    def __init__(self, command, log=None, env=None):
        self.name, self.log = command[0], log
        out = open(log, "wb") if log else None
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out and subprocess.STDOUT,
                                        env=env, start_new_session=True)
        if out:
            out.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            end_group(self.process.pid)

    def wait(self):
        """Raises Failed, with the end of the output, unless the command succeeds."""
        if self.process.wait() == 0:
            return
        if self.log:
            lines = self.log.read_text(errors="replace").splitlines()
            print(*[line for line in lines if "File with same data already exists" not in line][-40:], sep="\n", file=sys.stderr)
        raise Failed(f"{self.name} failed" + (f"; its output is in {self.log}" if self.log else ""))


def run(command, log=None, env=None):
    with Task(command, log, env) as task:
        task.wait()


class Daemon:
    """A process in its own group that outlives this program.

    It holds a lock on its file for as long as it lives. So the file of a process that has died is never mistaken for
    that of a running one, even if another process has its id by now.
    """

    def __init__(self, state, name):
        self.name, self.path, self.log = name, state / f"{name}.lock", state / f"{name}.log"

    def info(self):
        """Returns what start has recorded, or None if the process doesn't run."""
        try:
            with open(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            return json.loads(self.path.read_text())
        return None

    def start(self, command, env=None, **info):
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        with open(self.log, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                       start_new_session=True, pass_fds=[file])  # the lock is inherited
        os.write(file, json.dumps({"pid": process.pid, **info}).encode())
        os.close(file)

    def wait_until(self, ready):
        """Waits until ready() is true, at most START_SECONDS; the end of the process ends the wait."""
        end = time.monotonic() + START_SECONDS
        with heartbeat(f"starting {self.name}", announce=False):
            while not ready():
                if self.info() is None:
                    raise Failed(f"{self.name} did not start: {last_line(self.log)}")
                if time.monotonic() > end:
                    raise Failed(f"{self.name} was not ready in {START_SECONDS} s; see {self.log}")
                time.sleep(0.05)

    def stop(self):
        """Ends the process and all it has started. Returns whether it ran."""
        info = self.info()
        if info:
            with heartbeat(f"stopping {self.name}", announce=False):
                end_group(info["pid"])
        self.path.unlink(missing_ok=True)
        return info is not None


def end_group(pid):
    """Terminates a process group, and kills it after 15 s."""
    for sent, patience in (signal.SIGTERM, 15), (signal.SIGKILL, 5):
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            return
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with contextlib.suppress(ChildProcessError):  # a child is in its group until it has been waited for
                os.waitpid(-pid, os.WNOHANG)
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def answers(url):
    """Whether there is a server at the URL, whatever it answers."""
    try:
        direct.open(url, timeout=5).close()
    except urllib.error.HTTPError:
        pass
    except OSError:
        return False
    return True


def last_line(file):
    return (file.read_text(errors="replace").splitlines() or ["it printed nothing"])[-1]


@contextlib.contextmanager
def exclusive(file):
    """Waits until no other program is in such a block."""
    with open(file, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with heartbeat("waiting for another command on this local stack to end"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":  # NAME TEXT COMMAND…, for shell scripts
    with heartbeat(sys.argv[2]):
        sys.exit(subprocess.run(sys.argv[3:], check=False).returncode)
