"""A real S3 server for tests: OpenStack Swift with its S3 API, on loopback, in a folder of its own.

Four servers and memcached, as Debian packages them; no systemd, nothing outside the folder.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "swift-proxy swift-account swift-container swift-object memcached"
PROGRAMS = (
    "memcached",
    "swift-account-server",
    "swift-container-server",
    "swift-object-server",
    "swift-proxy-server",
    "swift-ring-builder",
)
SERVERS = ("account", "container", "object")
KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"
_START_SECONDS = 60.0
_QUIET_SECONDS = 0.5
_PIPELINE = "catch_errors proxy-logging cache bulk s3api tempauth slo dlo versioned_writes"
_FILTERS = {
    "catch_errors": "use = egg:swift#catch_errors",
    "proxy-logging": "use = egg:swift#proxy_logging",
    "bulk": "use = egg:swift#bulk",
    "s3api": f"use = egg:swift#s3api\nlocation = {REGION}\ns3_acl = false",
    "tempauth": "use = egg:swift#tempauth\nuser_test_tester = testing .admin",
    "slo": "use = egg:swift#slo",
    "dlo": "use = egg:swift#dlo",
    "versioned_writes": "use = egg:swift#versioned_writes",
}


def missing_programs() -> list[str]:
    """Which of the programs this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class Swift:
    """A running server."""

    endpoint: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a user sets: the variables every S3 client reads."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            # Nothing of the person's own set-up may leak into a test.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> list[str]:
        """Lines of the proxy's access log: one for each request so far.

        A line comes after the last byte of its answer: the log is read until nothing is added.
        """
        log = self.folder / "proxy-server.log"
        text, before = log.read_bytes(), None
        while text != before:
            time.sleep(_QUIET_SECONDS)
            text, before = log.read_bytes(), text
        lines = text.decode(errors="replace").splitlines()
        return [line for line in lines if " HTTP/1.0 " in line and "127.0.0.1" in line]


@contextlib.contextmanager
def running_swift(folder: Path) -> Iterator[Swift]:
    """Starts the servers with every file in `folder`; stops them again, whatever happens."""
    ports = dict(zip((*SERVERS, "memcached", "proxy"), _free_ports(5), strict=True))
    config = _write_configuration(folder, ports)
    with contextlib.ExitStack() as stack:
        memcached = ("memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(ports["memcached"]))
        stack.enter_context(_process("memcached", memcached, folder))
        for name in (*SERVERS, "proxy"):
            # -v: log to stderr too, since there is no syslog in a container.
            words = (f"swift-{name}-server", str(config / f"{name}-server.conf"), "-v")
            stack.enter_context(_process(f"{name}-server", words, folder))
        swift = Swift(f"http://127.0.0.1:{ports['proxy']}", folder)
        _wait_until_ready(swift)
        yield swift


def make_bucket(swift: Swift, name: str) -> str:
    """A new bucket; its address."""
    import s3fs

    system = s3fs.S3FileSystem(
        key=KEY,
        secret=SECRET,
        endpoint_url=swift.endpoint,
        client_kwargs={"region_name": REGION},
        skip_instance_cache=True,
    )
    system.mkdir(name)
    return f"s3://{name}"


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; another process may take one before its server does."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _write_configuration(folder: Path, ports: dict[str, int]) -> Path:
    config, user = folder / "etc", getpass.getuser()
    (folder / "dev" / "d1").mkdir(parents=True)
    config.mkdir()
    (config / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
        "[storage-policy:0]\nname = Policy-0\ndefault = yes\n"
    )
    for name in SERVERS:
        (config / f"{name}-server.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[name]}\nuser = {user}\n"
            f"swift_dir = {config}\ndevices = {folder / 'dev'}\nmount_check = false\n"
            f"workers = 0\nfallocate_reserve = 0\nlog_level = WARNING\n"
            # A late update of a listing would be left to a daemon that does not run here.
            f"container_update_timeout = 60\n"
            f"[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n"
            f"[{name}-replicator]\n[{name}-updater]\n[{name}-auditor]\n"
        )
    _build_rings(config, ports)
    filters = "".join(f"[filter:{name}]\n{text}\n" for name, text in _FILTERS.items())
    (config / "proxy-server.conf").write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports['proxy']}\nuser = {user}\n"
        f"swift_dir = {config}\nworkers = 0\n"
        f"[pipeline:main]\npipeline = {_PIPELINE} proxy-logging proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        f"[filter:cache]\nuse = egg:swift#memcache\n"
        f"memcache_servers = 127.0.0.1:{ports['memcached']}\n" + filters
    )
    return config


# What `swift-ring-builder create 6 1 1`, `add`, `rebalance` do, but in one process for all rings.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for pair in sys.argv[2:]:
    name, port = pair.split("=")
    where = {"ip": "127.0.0.1", "port": int(port)}
    replication = {"replication_" + key: value for key, value in where.items()}
    builder = RingBuilder(6, 1, 1)
    builder.add_dev(
        {"region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": "", **where, **replication}
    )
    builder.rebalance()
    builder.get_ring().save(sys.argv[1] + "/" + name + ".ring.gz")
"""


def _build_rings(config: Path, ports: dict[str, int]) -> None:
    program = Path(shutil.which("swift-ring-builder") or "swift-ring-builder")
    python = program.read_text().splitlines()[0].removeprefix("#!").split()
    pairs = [f"{name}={ports[name]}" for name in SERVERS]
    subprocess.run(
        [*python, "-c", _RINGS, str(config), *pairs],
        env=_environment(),
        check=True,
        capture_output=True,
        timeout=60,
    )


def _environment() -> dict[str, str]:
    """Debian's programs run under the system's Python: ours must not leak into them."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


@contextlib.contextmanager
def _process(name: str, words: tuple[str, ...], folder: Path) -> Iterator[None]:
    """One server, with its output in a log; ended by its own id."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(words, env=_environment(), stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(swift: Swift) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            # Not the health check: this one is answered by account, container and proxy together.
            request = urllib.request.Request(f"{swift.endpoint}/auth/v1.0")
            request.add_header("X-Storage-User", KEY)
            request.add_header("X-Storage-Pass", SECRET)
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                logs = "".join(p.read_text()[-800:] for p in sorted(swift.folder.glob("*.log")))
                raise RuntimeError(f"Swift did not start:\n{logs}") from None
            time.sleep(0.2)


def main() -> int:
    """Runs a server until interrupted, for trying things by hand."""
    import signal
    import tempfile

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="swift-") as folder, running_swift(Path(folder)) as it:
        make_bucket(it, "bucket")
        lines = [f"export {name}={value}" for name, value in it.environment.items()]
        print("\n".join([*lines, f"# logs in {folder}"]), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
