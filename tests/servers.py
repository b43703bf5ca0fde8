"""Real servers for the tests: a PostgreSQL, a Spark master with two workers, and a RabbitMQ, on the loopback.

Each starts once for all tests that ask for it, in a directory of its own that is removed at the end. Where its
programs are missing the tests are skipped with the reason; under CI they fail. A test module has the fixtures by
importing `postgres_server`, `spark_master` and `rabbitmq_broker`.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import pytest

PATIENCE = 60.0
"""Seconds that a server may take to be ready."""

DIES_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG: a test run that is killed leaves no server behind."""


@dataclass(frozen=True)
class Server:
    """Where a server listens; `url` is the owner's."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        return f"postgres://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


@pytest.fixture(scope="session", name="postgres")
def postgres_server() -> Iterator[Server]:
    """Start a PostgreSQL with an empty database."""
    if find_spec("psycopg") is None:
        missing("psycopg is not installed")
    initdb, server = program("initdb"), program("postgres")
    if initdb is None or server is None:
        missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with ExitStack() as stack:
        place = stack.enter_context(own_directory("pg-"))
        # The server refuses to be root's.
        user = next((u for u in ("postgres", "nobody") if exists(u)), None) if os.getuid() == 0 else None
        found = Server("127.0.0.1", free_port(), "flowstat", "s3cret-word", "traces")
        (place / "password").write_text(found.password)
        if user:
            shutil.chown(place, user)
            shutil.chown(place / "password", user)
        data = place / "data"
        local = ["-E", "UTF8", "--locale=C", "--no-sync"]
        run(
            [
                initdb,
                "-D",
                str(data),
                "-U",
                found.user,
                "--pwfile",
                str(place / "password"),
                "-A",
                "scram-sha-256",
                *local,
            ],
            place,
            user,
        )
        stack.enter_context(
            process(
                [server, "-D", str(data), "-k", str(place), "-h", found.host, "-p", str(found.port), "-F"],
                place / "postgres.log",
                lambda log: "ready to accept connections" in log,
                user=user,
                stop=signal.SIGINT,
            )
        )
        import psycopg

        with psycopg.connect(found.url.replace("/traces", "/postgres"), autocommit=True) as connection:
            connection.execute("create database traces")
        yield found


@pytest.fixture(scope="session", name="spark")
def spark_master() -> Iterator[str]:
    """Start a Spark standalone master and two workers of one core each; the URL of the master."""
    if find_spec("pyspark") is None:
        missing("pyspark is not installed")
    if program("java") is None:
        missing("Java is not installed (Debian: apt-get install default-jre-headless)")
    import pyspark

    home = Path(pyspark.__file__).parent
    launch = [str(home / "bin" / "spark-class")]
    environment = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "PYSPARK_PYTHON": sys.executable,
    }
    with ExitStack() as stack:
        place = stack.enter_context(own_directory("spark-"))
        loopback = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        log = place / "master.log"
        stack.enter_context(
            process(
                [*launch, "org.apache.spark.deploy.master.Master", *loopback],
                log,
                lambda text: "elected leader" in text,
                environment,
            )
        )
        found = re.search(r"spark://[\w.]+:\d+", log.read_text(errors="replace"))
        assert found is not None, log.read_text(errors="replace")
        url = found[0]
        size = ["--cores", "1", "--memory", "1g"]
        for k in (1, 2):
            work = ["--work-dir", str(place / f"worker{k}")]
            stack.enter_context(
                process(
                    [*launch, "org.apache.spark.deploy.worker.Worker", *loopback, *size, *work, url],
                    place / f"worker{k}.log",
                    # Both start at once: only the second one is waited for, below.
                    lambda text: True,
                    environment,
                )
            )
        wait(lambda: log.read_text(errors="replace").count("Registering worker") >= 2, log)
        yield url


class Broker:
    """A private RabbitMQ that can be killed and started again: same port, same queues."""

    host = "127.0.0.1"

    def __init__(self, place: Path, server: str) -> None:
        self.place = place
        self.port = free_port()
        self.log = place / "rabbitmq.log"
        self._server = server
        self.names = free_port()
        self._stack = ExitStack()
        (place / "plugins").write_text("[].\n")
        (place / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}/"

    def environment(self) -> dict[str, str]:
        """Return what tells the server to use its own directory, ports, cookie and name, and nothing of the system."""
        own = {
            "HOME": str(self.place),
            "ERL_EPMD_PORT": str(self.names),
            "ERL_EPMD_ADDRESS": self.host,
            "RUNNING_UNDER_SYSTEMD": "true",  # its script is then replaced by the server, which gets our signals
            "RABBITMQ_NODENAME": f"flowstat{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.place / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.place / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.place / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.place / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self.place / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.place / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")} | own

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._distribution = free_port()
        self.process = self._stack.enter_context(
            process(
                [self._server],
                self.log,
                lambda log: "Server startup complete" in log,
                self.environment(),
            )
        )

    def remembers(self, queues: Iterable[str]) -> bool:
        """Whether these quorum queues are on its disk: for about a second RabbitMQ 3 has a new one in memory only."""
        known = b"".join(path.read_bytes() for path in self.place.rglob("names.dets"))
        return all(queue.encode() in known for queue in queues)

    def control(self, *command: str) -> None:
        """Let its operator's program do something: set a policy, say."""
        control = program("rabbitmqctl")
        assert control is not None
        done = subprocess.run(
            [control, *command],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    def kill(self) -> None:
        """End it as a power cut does; what it had confirmed, in a queue that it remembers, is on the disk."""
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session", name="broker")
def rabbitmq_broker() -> Iterator[Broker]:
    """Start a RabbitMQ of its own."""
    if find_spec("aio_pika") is None:
        missing("aio-pika is not installed")
    with private_broker() as broker:
        yield broker


@contextmanager
def private_broker() -> Iterator[Broker]:
    """Run a RabbitMQ until the end of the block."""
    names, server = program("epmd"), program("rabbitmq-server")
    if names is None or server is None:
        missing("RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")
    with ExitStack() as stack:
        place = stack.enter_context(own_directory("mq-"))
        broker = Broker(place, server)
        # The name server of Erlang, which would else stay behind as a daemon.
        listen = ["-port", str(broker.names), "-address", broker.host]
        stack.enter_context(process([names, *listen], place / "epmd.log", lambda log: True))
        stack.callback(broker.stop)
        broker.start()
        yield broker


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str) -> str | None:
    """Return a program of the path, or of Debian's PostgreSQL, which is not on the path; the newest."""
    # What Debian has on the path for RabbitMQ starts the server of the system, as its user.
    if (own := Path("/usr/lib/rabbitmq/bin") / name).is_file():
        return str(own)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4].split(".")[0]))
    return shutil.which(name) or (str(places[-1]) if places else None)


def exists(user: str) -> bool:
    """Return whether there is such a user."""
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def own_directory(prefix: str) -> Iterator[Path]:
    """Make a directory with a short path (a socket's may have 107 bytes), and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as place:
        yield Path(place)


def run(command: list[str], place: Path, user: str | None) -> None:
    """Run a command to its end, as another user if told; its output is what a failure says."""
    done = subprocess.run(
        command, cwd=place, user=user, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout


@contextmanager
def process(
    command: list[str],
    log: Path,
    ready: Callable[[str], bool],
    environment: dict[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the end of the block; `ready` is asked with what it has logged so far."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    try:
        wait(lambda: ready(log.read_text(errors="replace")), log, server)
        yield server
    finally:
        server.send_signal(stop)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


def die_with_parent() -> None:
    """Ask for a signal when the tests are gone; runs in the new process."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGTERM)


def wait(ready: Callable[[], bool], log: Path, server: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until a server is ready; fail with its log when it ends, or takes too long."""
    deadline = monotonic() + PATIENCE
    while not ready():
        ended = server is not None and server.poll() is not None
        assert not ended, f"the server ended:\n{log.read_text(errors='replace')}"
        assert monotonic() < deadline, f"the server is not ready after {PATIENCE} s:\n{log.read_text(errors='replace')}"
        sleep(0.05)
