"""Whether a port can be listened on, and who does."""

import platform
import socket

import psutil


def bind_error(host: str, port: int) -> OSError | None:
    """Why nobody can listen there, or None."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if platform.system() != "Windows":
                # Sockets of connections that ended a moment ago are in nobody's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None


def owner_of(port: int) -> int | None:
    """The process that listens on a port, or None where that is not told."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    listening = (c for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port)
    return next((c.pid for c in listening if c.pid is not None), None)


def named(pid: int | None) -> str:
    """A process as a sentence names it."""
    try:
        return "another program" if pid is None else f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"the process {pid}"
