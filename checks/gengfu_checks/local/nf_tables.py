"""Whether the Linux kernel holds any table of nf_tables, asked of the kernel itself, for machines without `nft`.

Source: NFT_MSG_GETTABLE over nfnetlink (linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

_AF_NETLINK, _NETLINK_NETFILTER = 16, 12
_SUBSYSTEM = 10 << 8
_NEW_TABLE, _GET_TABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 1
_ERROR, _DONE = 2, 3
_REQUEST_ALL = 0x301
_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct(">BBH")
_NUMBER = struct.Struct("=i")
_NOT_THERE = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT))
"""What a kernel without nf_tables answers."""
_ANSWER_WITHIN_S = 2.0
_MAX_ANSWER_BYTES = 65536


def has_tables() -> bool:
    """Whether there is any table, of any family. Needs CAP_NET_ADMIN; raises OSError when the kernel does not say."""
    length = _HEADER.size + _FAMILY.size
    request = _HEADER.pack(length, _GET_TABLE, _REQUEST_ALL, 1, 0) + _FAMILY.pack(socket.AF_UNSPEC, 0, 0)
    try:
        with socket.socket(_AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(_ANSWER_WITHIN_S)
            channel.sendto(request, (0, 0))
            return tables_in(channel.recv(_MAX_ANSWER_BYTES))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):  # a kernel without nfnetlink
            return False
        raise


def tables_in(answer: bytes) -> bool:
    """Whether the first message of an answer is a table; raises OSError for one that tells of an error."""
    if len(answer) < _HEADER.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    kind = _HEADER.unpack_from(answer)[1]
    if kind in (_NEW_TABLE, _DONE):
        return bool(kind == _NEW_TABLE)
    code = -_NUMBER.unpack_from(answer, _HEADER.size)[0] if kind == _ERROR and len(answer) >= 20 else errno.EBADMSG
    if code in _NOT_THERE:
        return False
    raise OSError(code, os.strerror(code))
