"""Members of tar archives: where each lies in its archive, so that it is read without unpacking the archive."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from layerprobe.probe.foreign_files import HEAD, recognise_start
from layerprobe.probe.problem import Problem, StoredAudioError

BLOCK = 512  # bytes of a header
MOST_BYTES = 2**62  # of a member
MOST_OF_NAMES = 2**24  # bytes of names and other facts before a member's own header, which tarfile reads at once
OF_NAMES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
CUT = "it is cut or damaged behind the members that can be read"


@dataclass(frozen=True)
class TarIndex:
    """Where the members of an archive lie."""

    archive: str  # path or URL, for messages
    members: dict[str, tuple[int, int]]  # offset and size in bytes, by name
    fault: str = ""  # where the archive ends before its members do; a clause

    def find(self, name: str) -> tuple[int, int]:
        """Return offset and size of a member; of several with one name, of the last, as tar unpacks them.

        Raises:
            StoredAudioError: if there is none
        """
        found = self.members.get(_plain(name))
        if found is None:
            cause = f", and {self.fault}" if self.fault else ""
            text = f"{self.archive} has no member {name!r}{cause}. Correct the name, or pack the archive again"
            raise StoredAudioError(Problem("LP235", text))
        return found


def read_tar_index(file: Any, archive: str) -> TarIndex:
    """Read the headers of an archive.

    Args:
        file: the archive, open for reading and seekable
        archive: its path or URL, for messages

    Raises:
        StoredAudioError: if it is compressed, or no archive
    """
    members: dict[str, tuple[int, int]] = {}
    links: list[tuple[str, str]] = []
    try:
        with open_archive(file, archive) as opened:
            fault = ""
            try:
                for member in in_order(opened):
                    if member.isreg() and not member.issparse():
                        members[_plain(member.name)] = (member.offset_data, member.size)
                    elif member.islnk():
                        links.append((member.name, member.linkname))
            except tarfile.ReadError:
                fault = CUT
    except StoredAudioError:
        raise
    except (tarfile.TarError, OSError) as error:
        text = f"{archive} can't be read as a tar archive ({error}). Pack it again, or copy it again"
        raise StoredAudioError(Problem("LP236", text)) from error
    for name, target in links:
        if _plain(target) in members:
            members.setdefault(_plain(name), members[_plain(target)])
    return TarIndex(archive, members, fault)


def open_archive(file: Any, archive: str) -> tarfile.TarFile:
    """Open an archive whose members can be read where they lie.

    Args:
        file: the archive, open for reading and seekable
        archive: its path or URL, for messages

    Raises:
        StoredAudioError: if it is compressed
        tarfile.TarError, OSError: if it is no archive, or can't be read
    """
    head = file.read(HEAD)
    foreign = recognise_start(head)
    if foreign is not None and (head.strip(b"\0") or not head):  # zeros alone are an archive without members
        text = f"{archive} {foreign.clause}, so that its members can't be read where they lie; {foreign.advice}"
        raise StoredAudioError(Problem("LP236", text))
    file.seek(0)
    return tarfile.open(fileobj=file, mode="r:", tarinfo=_Header)


def in_order(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield members without keeping them, a kilobyte each.

    Raises:
        tarfile.ReadError: if the archive is cut, or something else than its end follows its members
    """
    while (member := archive.next()) is not None:
        if not 0 <= member.size <= MOST_BYTES:  # tarfile would go back, or beyond what can be sought, and not end
            raise tarfile.ReadError("a member has an impossible size")
        yield member
        archive.members = []  # type: ignore[attr-defined]  # as tarfile's documentation has it for long archives
    if not _ends_well(archive):
        raise tarfile.ReadError("what follows is no header of a member")


class _Header(tarfile.TarInfo):
    """Header of a member, of which nothing but name and size is read where it is that of a usual file.

    tarfile reads owners and times, too, and sums each header twice, which takes most of the time of an index.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Read a header."""
        usual = len(buf) == BLOCK and buf[156:157] == tarfile.REGTYPE and buf[257:262] == b"ustar"
        size, stated = (_octal(buf[124:136]), _octal(buf[148:156])) if usual else (-1, -1)
        if size < 0 or stated != sum(buf) - sum(buf[148:156]) + 8 * 0x20:  # the sum counts itself as blanks
            other = super().frombuf(buf, encoding, errors)
            if not 0 <= other.size <= (MOST_OF_NAMES if other.type in OF_NAMES else MOST_BYTES):
                raise tarfile.ReadError("a member has an impossible size")
            return other
        found = cls()
        found.name = _text(buf[:100], encoding, errors)
        if prefix := _text(buf[345:500], encoding, errors):
            found.name = f"{prefix}/{found.name}"
        found.size, found.chksum = size, stated
        return found


def _octal(digits: bytes | bytearray) -> int:
    """Return a number as headers usually have it; -1 for another way to write one."""
    plain = digits.split(b"\0", 1)[0].strip()
    return int(plain, 8) if plain.isdigit() and not plain.strip(b"01234567") else -1


def _text(field: bytes | bytearray, encoding: str, errors: str) -> str:
    return field.split(b"\0", 1)[0].decode(encoding, errors)


def _ends_well(archive: tarfile.TarFile) -> bool:
    """Return whether an archive's members are followed by zeros or by its end."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    return not file.read(BLOCK).strip(b"\0")


def _plain(name: str) -> str:
    return name.removeprefix("./")
