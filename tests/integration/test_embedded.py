"""The embedded PostgreSQL: it is one user's alone, and leaves nothing outside its folder (SPEC CLI-1, F-1)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alerts_engine.embedded import embedded_postgres
from alerts_engine.embedded.access import Access
from alerts_engine.embedded.guise import find_guise
from alerts_engine.embedded.server import _programs
from alerts_engine.errors import EmbeddedServerError
from tests.support.places import fast_folder
from tests.support.processes import ServerUser, as_user, server_user

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
LENGTHS = {"short": 1, "long": 130}


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A folder in which a server has been, for copies: making one takes a second. They need survive no power cut."""
    with somewhere() as base:
        with embedded_postgres(base / "made") as url:
            rows(url, "ALTER SYSTEM SET fsync = off")
        yield base / "made"


@pytest.fixture(params=LENGTHS.values(), ids=LENGTHS)
def place(request: pytest.FixtureRequest, made: Path) -> Iterator[Place]:
    """Somewhere that every user of the machine can see, with a path that has room for a socket, or none."""
    with somewhere() as base:
        yield Place(base, base / (request.param * "x"), made)


@pytest.fixture
def near(made: Path) -> Iterator[Place]:
    """The same with a short path only."""
    with somewhere() as base:
        yield Place(base, base / "x", made)


class Place:
    """A folder for the server, and one for what is temporary."""

    def __init__(self, base: Path, folder: Path, made: Path) -> None:
        self.base, self.folder, self.temporary, self._made = base, folder, base / "t", made
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)

    def use(self, *, fresh: bool = False, **options: str | None) -> ServerUser:
        """Start using the server of the folder, which is a copy unless it is there, or to be made again."""
        if not (fresh or self.folder.exists()):
            shutil.copytree(self._made, self.folder)
        return server_user(self.folder, temporary=self.temporary, **options)

    def without(self, *programs: str) -> str:
        """A search path on which these programs refuse."""
        refusing = self.base / "refusing"
        refusing.mkdir()
        for name in programs:
            (refusing / name).write_text("#!/bin/sh\nexit 1\n")
            (refusing / name).chmod(0o755)
        return f"{refusing}:{os.environ['PATH']}"

    def left(self) -> list[str]:
        """What is in the temporary directory, and which folders are beside the data."""
        beside = (f"beside the data: {one.name}" for one in self.folder.iterdir() if one.is_dir())
        temporary = (one.name for one in self.temporary.iterdir())
        return sorted([*temporary, *(one for one in beside if not one.endswith(" postgres"))])


@contextmanager
def somewhere() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="ae", dir=fast_folder()))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def with_password(url: str, password: str | None) -> str:
    return make_conninfo("", **{**conninfo_to_dict(url), "password": password})


def socket_folder(url: str) -> Path:
    return Path(conninfo_to_dict(url)["host"])


# --- who may come in ------------------------------------------------------------------------------------------------


def accesses(folder: Path, url: str) -> list[str]:
    """What works for whoever calls it, with the password at hand."""
    tries = {
        "connecting": lambda: psycopg.connect(url),
        "listing the socket's folder": lambda: list(socket_folder(url).iterdir()),
        "listing the folder": lambda: list(folder.iterdir()),
        "listing the data": lambda: list((folder / "postgres").iterdir()),
        "reading the password": (folder / "postgres.password").read_text,
        "reading who may connect": (folder / "postgres" / "pg_hba.conf").read_text,
        "reading the log": (folder / "postgres" / "log").read_text,
    }
    return [name for name, act in tries.items() if _works(act)]


def _works(act) -> bool:
    try:
        act()
    except (PermissionError, psycopg.OperationalError):
        return False
    return True


def listening(process: int) -> list[str]:
    """Every socket on which the process can be reached: the paths of Unix sockets, and ``tcp``."""
    inodes = set()
    for one in Path(f"/proc/{process}/fd").iterdir():
        target = str(one.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    accepts = "00010000"
    found = [line[7] if len(line) > 7 else "" for line in unix if line[6] in inodes and line[3] == accepts]
    for name in ("tcp", "tcp6", "udp", "udp6"):
        table = Path("/proc/net") / name
        if table.exists():
            found += ["tcp" for line in table.read_text().splitlines()[1:] if line.split()[9] in inodes]
    return found


GUISES = ("namespace", "account", "ordinary")


@needs_root
@pytest.mark.parametrize("guise", GUISES)
def test_another_user_can_neither_connect_nor_see_the_data(place: Place, guise: str) -> None:
    """Not even with the password, nor as the account that the server runs under, whatever the path's length is."""
    if guise == "ordinary":
        place.base.chmod(0o777)
    options = {"namespace": {}, "account": {"path": place.without("unshare")}, "ordinary": {"account": "daemon"}}
    os.umask(0)
    try:
        server = place.use(fresh=True, **options[guise])
    finally:
        os.umask(0o022)
    assert server.error == ""
    try:
        assert accesses(place.folder, server.url), "the owner can"
        for account in ("nobody", "bin"):
            assert as_user(account, lambda: accesses(place.folder, server.url)) == []
        (found,) = listening(postmaster(place.folder))
        assert Path(found).parent == socket_folder(server.url)
        assert stat.S_IMODE(socket_folder(server.url).lstat().st_mode) == 0o700
        assert stat.S_IMODE(place.folder.lstat().st_mode) == 0o700
        assert stat.S_IMODE((place.folder / "postgres.password").lstat().st_mode) == 0o600
    finally:
        server.leave()
    assert place.left() == []


def test_the_server_trusts_nobody(place: Place) -> None:
    """Whoever gets as far as the socket still has to give the password."""
    server = place.use()
    try:
        for password in (None, "", "postgres", "wrong"):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(with_password(server.url, password))
        assert rows(server.url, "SELECT type, database, user_name, auth_method FROM pg_hba_file_rules") == [
            ("local", ["all"], ["all"], "scram-sha-256")
        ]
        shown = "SELECT current_setting('listen_addresses'), current_setting('unix_socket_permissions')"
        assert rows(server.url, shown) == [("", "0700")]
    finally:
        server.leave()


def test_two_servers_have_two_passwords(tmp_path: Path) -> None:
    """A password is drawn, not made up from anything; it is drawn once, and nobody else can read it."""
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    one, other = (Access(folder).password() for folder in folders)
    assert one != other
    assert min(len(one), len(other)) >= 40
    assert Access(folders[0]).password() == one
    assert stat.S_IMODE((folders[0] / "postgres.password").stat().st_mode) == 0o600


def test_a_password_that_was_cut_short_is_drawn_again(tmp_path: Path) -> None:
    """After a power cut its file may be empty, and an empty password would be none."""
    (tmp_path / "postgres.password").touch()
    assert len(Access(tmp_path).password()) >= 40


@pytest.mark.parametrize("planted", ["link", "open", "file", "missing", "nonsense"])
def test_a_socket_folder_that_is_not_private_is_not_used(near: Place, planted: str) -> None:
    """What was noted is looked at before it is used: a folder, not a link, ours, closed to others."""
    near.use().leave()
    trap = near.temporary / "trap"
    match planted:
        case "link":
            (near.base / "real").mkdir(mode=0o700)
            trap.symlink_to(near.base / "real")
        case "open":
            trap.mkdir()
            trap.chmod(0o755)
        case "file":
            trap.touch(mode=0o700)
    (near.folder / "postgres.socket").write_text("\0" if planted == "nonsense" else str(trap))
    server = near.use()
    assert server.error == ""
    assert socket_folder(server.url) not in (trap, near.base / "real")
    server.leave()
    assert near.left() == ["trap"] * (planted in ("link", "open", "file"))


@needs_root
def test_a_socket_folder_of_somebody_else_is_not_used(near: Place) -> None:
    """A closed folder is a trap all the same when it is another user's."""
    near.use().leave()
    trap = near.temporary / "trap"
    trap.mkdir(mode=0o700)
    shutil.chown(trap, "daemon")
    (near.folder / "postgres.socket").write_text(str(trap))
    server = near.use()
    assert socket_folder(server.url) != trap
    server.leave()
    assert near.left() == ["trap"]


@needs_root
def test_a_folder_of_somebody_else_is_refused(near: Place) -> None:
    """Root does not move in where another user could change everything under it."""
    near.folder.mkdir()
    shutil.chown(near.folder, "daemon")
    with pytest.raises(EmbeddedServerError, match="belongs to another user"), embedded_postgres(near.folder):
        pass
    assert list(near.folder.iterdir()) == []


def test_a_folder_that_is_none_is_an_error(near: Place) -> None:
    """One sentence that names it, not a traceback."""
    near.folder.touch()
    with pytest.raises(EmbeddedServerError, match=str(near.folder)), embedded_postgres(near.folder):
        pass


def test_a_system_without_file_locks_is_named() -> None:
    """Windows: one sentence, not a traceback of an import."""
    program = (
        "import sys; sys.modules['fcntl'] = None\n"
        "try: import alerts_engine.embedded\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith("EmbeddedServerError the embedded PostgreSQL needs Linux or macOS")


@needs_root
def test_root_without_another_name_gets_a_clear_error(near: Place) -> None:
    """No folder is opened and no account added to help PostgreSQL out."""
    server = near.use(path=near.without("unshare", "setpriv"))
    assert "refuses to run as root" in server.error
    assert "DATABASE_URL" in server.error
    server.leave()


@needs_root
def test_data_moves_from_one_name_to_the_other(near: Place) -> None:
    """What was made in a namespace goes on under an account, and back."""
    for path in (None, near.without("unshare"), None):
        server = near.use(path=path)
        assert server.error == ""
        rows(server.url, "CREATE TABLE IF NOT EXISTS kept (id int)")
        assert rows(server.url, "SELECT count(*) FROM kept") == [(0,)]
        server.leave()


NAMES = ("a b", "a,b", "all of it: , ' \" % $HOME `id` € \\")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder_will_do(near: Place, name: str) -> None:
    """No name is taken for a piece of a command, a list or a URL."""
    near.folder = near.base / name
    server = near.use(fresh=name == NAMES[-1])
    assert server.error == ""
    assert rows(server.url, "SHOW data_directory") == [(str(near.folder / "postgres"),)]
    server.leave()


# --- what is left ---------------------------------------------------------------------------------------------------


def test_a_second_process_finds_the_server_and_the_last_one_stops_it(place: Place) -> None:
    """They share one socket, and whoever goes last cleans up."""
    first, second = place.use(), place.use()
    assert first.url == second.url
    first.leave()
    assert rows(second.url, "SELECT 1") == [(1,)]
    second.leave()
    assert not (place.folder / "postgres" / "postmaster.pid").exists()
    assert place.left() == []


def test_a_process_that_is_killed_is_no_user_any_more(place: Place) -> None:
    """The kernel gives back what a killed process held."""
    killed, other = place.use(), place.use()
    killed.kill()
    assert rows(other.url, "SELECT 1") == [(1,)]
    other.leave()
    assert not (place.folder / "postgres" / "postmaster.pid").exists()
    assert place.left() == []


def test_nothing_stays_behind_after_everything_was_killed(place: Place) -> None:
    """The next start finds what the dead have left, and the next stop removes it; the data is all there."""
    server = place.use()
    rows(server.url, "CREATE TABLE kept AS SELECT 42 AS id")
    kill_the_lot(server, place.folder)
    again = place.use()
    assert again.error == ""
    assert rows(again.url, "SELECT id FROM kept") == [(42,)]
    again.leave()
    assert place.left() == []


@needs_root
def test_no_shared_memory_stays_behind_after_everything_was_killed(near: Place) -> None:
    """What the kernel keeps for a dead server goes with the next one."""
    near.base.chmod(0o777)
    server = near.use(fresh=True, account="daemon")
    kill_the_lot(server, near.folder)
    near.use(account="daemon").leave()
    assert [one.name for one in Path("/dev/shm").iterdir() if one.owner() == "daemon"] == []  # noqa: S108


def kill_the_lot(server: ServerUser, folder: Path) -> None:
    """SIGKILL to the process that uses the server, to the server and to all it has started."""
    main = psutil.Process(postmaster(folder))
    lot = [main, *main.children(recursive=True)]
    main.suspend()
    for one in lot:
        one.kill()
    server.kill()
    psutil.wait_procs(lot, timeout=30)


def test_a_killed_servers_url_works_again(place: Place) -> None:
    """Whoever holds a URL can go on with it once somebody has started the server again."""
    victim = place.use()
    main = psutil.Process(postmaster(place.folder))
    main.send_signal(signal.SIGKILL)
    psutil.wait_procs([main], timeout=30)
    helper = place.use()
    assert helper.error == ""
    assert rows(victim.url, "SELECT 1") == [(1,)]
    helper.leave()
    victim.leave()
    assert place.left() == []


def test_another_process_with_the_dead_servers_number_is_left_alone(near: Place) -> None:
    """Process ids come around, above all in containers: a number proves nothing."""
    near.use().leave()
    pid_file = near.folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{near.folder}/postgres\n1\n5432\n{near.folder}\n\n  1 1\nready   \n")
    server = near.use()
    assert server.error == ""
    assert postmaster(near.folder) != os.getpid()
    server.leave()


def test_a_kill_while_the_data_is_made_is_made_good(near: Place) -> None:
    """Half of it is thrown away at the next start."""
    half = near.folder / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = near.use()
    assert server.error == ""
    assert not half.exists()
    server.leave()


def test_a_folder_that_holds_something_else_is_not_touched(near: Place) -> None:
    """It may be somebody's work."""
    work = near.folder / "postgres" / "work"
    work.mkdir(parents=True)
    server = near.use()
    assert "no data of its own" in server.error
    assert work.exists()
    server.leave()


# --- data of earlier versions ---------------------------------------------------------------------------------------


def make_trusting_data(folder: Path) -> None:
    """As it was made before there was a password."""
    folder.mkdir(mode=0o700, exist_ok=True)
    prefix, programs, data = find_guise().prefix, _programs(), folder / "postgres"
    initdb = [*prefix, programs / "initdb", "--auth=trust", "-U", "postgres", "-D", data]
    subprocess.run(initdb, check=True, capture_output=True)
    single = [*prefix, programs / "postgres", "--single", "-D", data, "postgres"]
    subprocess.run(single, input=b"CREATE TABLE kept AS SELECT 42 AS id\n", check=True, capture_output=True)


@contextmanager
def trusting_server(folder: Path) -> Iterator[None]:
    """An earlier version's server, which nobody has stopped: its socket is in the data folder."""
    data = folder / "postgres"
    options = ["-c", "listen_addresses=", "-k", str(data)]
    command = [*find_guise().prefix, str(_programs() / "postgres"), "-D", str(data), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (data / ".s.PGSQL.5432").exists() or "ready" not in (data / "postmaster.pid").read_text():
            assert process.poll() is None
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_data_that_trusted_gets_a_password(near: Place, runs: bool) -> None:
    """The next start closes it, and what is in it stays; a trusting server that still runs is replaced."""
    make_trusting_data(near.folder)
    with trusting_server(near.folder) if runs else somewhere():
        server = near.use()
        assert server.error == ""
        assert rows(server.url, "SELECT id FROM kept") == [(42,)]
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(with_password(server.url, None))
        assert "trust" not in (near.folder / "postgres" / "pg_hba.conf").read_text()
        assert len(listening(postmaster(near.folder))) == 1
        server.leave()


def test_a_lost_password_is_replaced(near: Place) -> None:
    """The owner of the files is the owner of the data."""
    server = near.use()
    rows(server.url, "CREATE TABLE kept AS SELECT 42 AS id")
    server.leave()
    (near.folder / "postgres.password").unlink()
    again = near.use()
    assert again.error == ""
    assert again.url.partition("@")[0] != server.url.partition("@")[0]
    assert rows(again.url, "SELECT id FROM kept") == [(42,)]
    again.leave()
