"""What a server allows: addresses, access and limits."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from cyclegan.errors import InputError
from cyclegan.system.arguments import check_float, check_int
from cyclegan.system.json_files import shown

# Other names of this machine for itself.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class ServeSettings:
    """host, port: the address that is served; port 0: a free one. token: every request must carry it, if given.

    cors: origins of pages that may use the server, such as https://example.com, or * for all. allowed_hosts: names
    under which the server is reached, beside those of its own address. max_body: bytes of a request. max_pixels: of an
    image. timeout: seconds from the last byte of a request to its answer. queue: requests that are worked on or wait.
    log: whether each request becomes a line on standard error.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    cors: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    max_body: int = 2**28
    max_pixels: int = 2**27
    timeout: float = 600.0
    queue: int = 64
    log: bool = False

    def check(self, name_of: Callable[[str], str] = str) -> None:
        """Raises InputError for values that cannot be used. name_of: a field -> its name in the message."""
        if not re.fullmatch(r"[A-Za-z0-9._:-]+", self.host):
            expected = "expected an address of this machine, such as 127.0.0.1 or 0.0.0.0"
            raise InputError(f"{name_of('host')} is {shown(self.host)}; {expected}.")
        check_int(name_of("port"), self.port, least=0, most=65535)
        if self.token is not None and not is_token(self.token):
            raise InputError(f"{name_of('token')} is too weak; expected 8 to 1,000 ASCII characters without spaces.")
        for origin in self.cors:
            if not re.fullmatch(r"\*|https?://[A-Za-z0-9.\[\]:-]+", origin):
                raise InputError(f"{name_of('cors')} is {shown(origin)}; expected one such as https://example.com.")
        for host in self.allowed_hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host):
                raise InputError(
                    f"{name_of('allowed_hosts')} is {shown(host)}; expected a name without a port, such as example.com."
                )
        check_int(name_of("max_body"), self.max_body, least=1)
        check_int(name_of("max_pixels"), self.max_pixels, least=1)
        check_float(name_of("timeout"), self.timeout, least=0.1)
        check_int(name_of("queue"), self.queue, least=1, most=10_000)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header, such as localhost:8000, names this server.

        A page of another site can reach it under that site's name only, as by DNS rebinding.
        """
        name = re.sub(r":\d*$", "", host).lower()
        known = (*LOOPBACK, self.host, f"[{self.host}]", *self.allowed_hosts)
        if name in (each.lower() for each in known):
            return True
        if self.host not in ("0.0.0.0", "::"):
            return False
        try:  # all addresses of the machine; an address is nobody's name
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def is_token(text: str) -> bool:
    """Whether this may be a token: 8 to 1,000 ASCII characters without spaces."""
    return re.fullmatch(r"[!-~]{8,1000}", text) is not None
