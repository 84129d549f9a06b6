#!/usr/bin/env python3
"""The virtio-fs server behind the kernel's own FUSE driver: a share is used as a file system."""
import contextlib
import errno
import os
import pathlib
import random
import stat
import subprocess
import sys
import tempfile

if "--inside" not in sys.argv:
    # Mounts of its own, that go with it.
    os.execvp("unshare", ["unshare", "-m", sys.executable, __file__, *sys.argv[1:], "--inside"])
TOOL = sys.argv[1]
count = failed = 0


class Skip(Exception):
    pass


@contextlib.contextmanager
def mounted(directory, *options):
    """(share, mountpoint)"""
    share, point = directory / "share", directory / "mnt"
    share.mkdir(exist_ok=True)
    point.mkdir(exist_ok=True)
    process = subprocess.Popen([TOOL, share, point, *options], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            process.wait()
            raise Skip("no FUSE here: " + process.stderr.read().strip())
        yield share, point
    finally:
        subprocess.run(["umount", point], stderr=subprocess.DEVNULL)
        ended = process.wait(timeout=20)
        said = process.stderr.read()
    assert ended == 0 and said == "", f"fs_tool ended with {ended}: {said}"


def fails(code, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError as error:
        assert error.errno == code, f"{error} instead of {errno.errorcode[code]}"
        return
    raise AssertionError(f"{function.__name__}{args} worked instead of {errno.errorcode[code]}")


def listing(top):
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        st = path.lstat()
        body = None
        if stat.S_ISREG(st.st_mode):
            body = path.read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            body = os.readlink(path)
        found[str(path.relative_to(top))] = (st.st_mode, st.st_uid, st.st_gid, st.st_size
                                             if not stat.S_ISDIR(st.st_mode) else 0,
                                             st.st_mtime_ns, st.st_nlink
                                             if not stat.S_ISDIR(st.st_mode) else 0, body)
    return found


def a_tree_copied_in_is_the_same_from_both_sides(directory):
    source = directory / "source"
    (source / "a/b/c").mkdir(parents=True)
    for number in range(300):
        (source / f"a/file{number}").write_bytes(random.Random(number).randbytes(number * 37))
    (source / "big").write_bytes(random.Random(1).randbytes(5 << 20))
    os.symlink("../nowhere", source / "a/link")
    os.link(source / "big", source / "a/b/hard")
    os.mkfifo(source / "pipe")
    os.chmod(source / "a/file1", 0o6751)
    os.chown(source / "a/file2", 1234, 4321)
    os.chmod(source / "a/b", 0o1777)
    os.utime(source / "a/file3", ns=(10**18 + 1, 10**18 + 7))
    with mounted(directory) as (share, point):
        subprocess.run(["cp", "-a", f"{source}/.", point / "copy"], check=True)
        want = listing(source)
        assert listing(point / "copy") == want
        assert listing(share / "copy") == want
        subprocess.run(["rm", "-rf", point / "copy"], check=True)
        assert list(share.iterdir()) == []


def files_behave_as_files(directory):
    with mounted(directory) as (share, point):
        path = point / "f"
        with open(path, "xb+") as file:
            file.write(b"x" * 100000)
            file.flush()
            os.pwrite(file.fileno(), b"yy", 200000)
            os.posix_fallocate(file.fileno(), 0, 300000)
            os.ftruncate(file.fileno(), 250000)
            os.fsync(file.fileno())
            assert os.pread(file.fileno(), 5, 199999) == b"\0yy\0\0"
            os.unlink(path)
            assert os.pread(file.fileno(), 2, 200000) == b"yy"
        assert list(share.iterdir()) == []
        path.write_bytes(b"one")
        with open(path, "ab") as file:
            file.write(b"two")
        assert (share / "f").read_bytes() == b"onetwo"
        fails(errno.EEXIST, open, path, "x")
        (point / "d").mkdir()
        os.rename(path, point / "d/g")
        (point / "h").write_bytes(b"h")
        os.rename(point / "h", point / "d/g")
        assert (share / "d/g").read_bytes() == b"h"
        fails(errno.ENOTEMPTY, os.rmdir, point / "d")
        fails(errno.ENOENT, os.stat, point / "no")
        fails(errno.ENAMETOOLONG, os.stat, point / ("n" * 256))
        os.mkfifo(point / "p")
        fails(errno.EPERM, os.mknod, point / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(point / "mark", stat.S_IFCHR | 0o600, 0)
        os.setxattr(point / "d/g", "user.x", b"value")
        assert os.getxattr(share / "d/g", "user.x") == b"value"
        assert os.listxattr(point / "d/g") == ["user.x"]
        fails(errno.EEXIST, os.setxattr, point / "d/g", "user.x", b"", os.XATTR_CREATE)
        fails(errno.EOPNOTSUPP, os.setxattr, point / "d/g", "trusted.x", b"1")
        fails(errno.EOPNOTSUPP, os.setxattr, point / "d/g", "security.other", b"1")
        os.removexattr(point / "d/g", "user.x")
        fails(errno.ENODATA, os.getxattr, point / "d/g", "user.x")
        with open(point / "from", "wb+") as a, open(point / "to", "wb+") as b:
            os.pwrite(a.fileno(), b"abc" * 100000, 1 << 20)
            a.flush()
            assert os.lseek(a.fileno(), 0, os.SEEK_DATA) > 0
            assert os.copy_file_range(a.fileno(), b.fileno(), 3000, 1 << 20, 5) == 3000
            assert os.pread(b.fileno(), 3000, 5) == b"abc" * 1000
        assert os.statvfs(point).f_bsize == os.statvfs(share).f_bsize


def three_thousand_names_are_each_seen_once(directory):
    with mounted(directory) as (share, point):
        names = {f"a-rather-long-name-{number}" for number in range(3000)}
        for name in names:
            (share / name).touch()
        seen = os.listdir(point)
        assert len(seen) == len(names) and set(seen) == names
        with os.scandir(point) as entries:
            assert sum(entry.stat().st_size == 0 for entry in entries) == len(names)


def links_lead_nowhere_on_the_host(directory):
    secret = directory / "secret"
    secret.write_text("secret")
    with mounted(directory) as (share, point):
        os.symlink(secret, share / "link")
        os.symlink(directory, share / "dir")
        assert os.readlink(point / "link") == str(secret)
        # The guest's kernel resolves the link; the server hands out no file behind it.
        with open(point / "x", "w"):
            pass
        os.unlink(share / "x")
        os.symlink(secret, share / "x")
        with contextlib.suppress(OSError):
            fd = os.open(point / "x", os.O_RDONLY | os.O_NOFOLLOW)
            assert os.read(fd, 6) != b"secret"
            os.close(fd)


def a_read_only_share_changes_nothing(directory):
    share = directory / "share"
    (share / "d").mkdir(parents=True)
    (share / "f").write_text("f")
    before = listing(share)
    with mounted(directory, "ro") as (share, point):
        assert (point / "f").read_text() == "f"
        for function, *args in [
                (open, point / "f", "r+"), (open, point / "n", "w"), (os.mkdir, point / "n"),
                (os.unlink, point / "f"), (os.rmdir, point / "d"), (os.chmod, point / "f", 0o777),
                (os.rename, point / "f", point / "g"), (os.link, point / "f", point / "g"),
                (os.symlink, "f", point / "g"), (os.truncate, point / "f", 0),
                (os.mkfifo, point / "g"), (os.setxattr, point / "f", "user.a", b"1"),
                (os.utime, point / "f", (1, 1))]:
            fails(errno.EROFS, function, *args)
    assert listing(share) == before


def of_a_single_file_nothing_else_is_there(directory):
    share = directory / "share"
    share.mkdir()
    (share / "one").write_text("one")
    (share / "two").write_text("two")
    with mounted(directory, "only", "one") as (share, point):
        assert os.listdir(point) == ["one"]
        (point / "one").write_text("new")
        assert (share / "one").read_text() == "new"
        fails(errno.ENOENT, os.stat, point / "two")
        for function, *args in [(os.mkdir, point / "n"), (os.unlink, point / "one"),
                                (os.chmod, point, 0o777),
                                (os.rename, point / "one", point / "three")]:
            fails(errno.EPERM, function, *args)
    assert (share / "two").read_text() == "two"


def ids_are_mapped_by_ranges(directory):
    with mounted(directory, "map", "0", "100000", "1000", "map", "5000", "7000", "1") as (share,
                                                                                        point):
        os.chown(share, 100000, 100000)
        (point / "f").write_text("f")
        assert (share / "f").stat().st_uid == 100000
        os.chown(point / "f", 999, 5000)
        st = (share / "f").stat()
        assert (st.st_uid, st.st_gid) == (100999, 7000)
        st = (point / "f").stat()
        assert (st.st_uid, st.st_gid) == (999, 5000)
        fails(errno.EINVAL, os.chown, point / "f", 1000, 0)
        os.chown(share / "f", 0, 0)
        (share / "g").touch()
        assert (point / "g").stat().st_uid == 65534


def names_of_a_new_maker(directory):
    with mounted(directory) as (share, point):
        os.chmod(share, 0o2777)
        os.chown(share, 0, 77)
        subprocess.run(["setpriv", "--reuid=1234", "--regid=4321", "--clear-groups", "sh", "-c",
                        'umask 027; mkdir "$1/d"; echo x >"$1/f"; ln -s x "$1/l"', "sh", point],
                       check=True)
        for name, mode in [("d", 0o2750), ("f", 0o640), ("l", 0o777)]:
            st = (share / name).lstat()
            assert (st.st_uid, st.st_gid) == (1234, 77), name
            assert stat.S_IMODE(st.st_mode) == mode, f"{name}: {st.st_mode:o}"


def held_back_writes_arrive(directory):
    with mounted(directory, "writeback") as (share, point):
        with open(point / "f", "wb") as file:
            for number in range(10000):
                file.write(b"%08d" % number)
                file.flush()
            os.fsync(file.fileno())
        assert (share / "f").read_bytes() == b"".join(b"%08d" % n for n in range(10000))


for test in [a_tree_copied_in_is_the_same_from_both_sides, files_behave_as_files,
             three_thousand_names_are_each_seen_once, links_lead_nowhere_on_the_host,
             a_read_only_share_changes_nothing, of_a_single_file_nothing_else_is_there,
             ids_are_mapped_by_ranges, names_of_a_new_maker, held_back_writes_arrive]:
    count += 1
    name = test.__name__.replace("_", " ")
    with tempfile.TemporaryDirectory(prefix="isola-fs-") as directory:
        os.chmod(directory, 0o755)
        try:
            test(pathlib.Path(directory))
            print(f"ok {count} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {count} - {name} # SKIP {reason}", flush=True)
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            failed += 1
            where = error.__traceback__
            while where.tb_next is not None and where.tb_next.tb_frame.f_code.co_filename == __file__:
                where = where.tb_next
            print(f"not ok {count} - {name}\n# line {where.tb_lineno}: {error}", flush=True)
print(f"1..{count}")
raise SystemExit(failed > 0)
