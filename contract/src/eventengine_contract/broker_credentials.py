"""What is shown to brokers, as a folder of files or a Secret of the same keys holds it.

Owns which file becomes which property of librdkafka, for the engine, which reads
files, and for the adapter, which reads Secrets. Contents become properties as
they are, never names of files: nobody reads a file of the other's choosing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CREDENTIAL_FILES: Final = {
    "username": "sasl.username",
    "password": "sasl.password",
    "ca.crt": "ssl.ca.pem",
    "tls.crt": "ssl.certificate.pem",
    "tls.key": "ssl.key.pem",
}
"""Property by file. What a Secret holds besides is passed over."""

CREDENTIAL_BYTES_MAX: Final = 65_536
_PAIRS: Final = (("username", "password"), ("tls.crt", "tls.key"))
_OF_ONE_LINE: Final = frozenset({"username", "password"})


def credential_properties(files: Mapping[str, bytes]) -> dict[str, str]:
    """The properties that the files of one folder, or the keys of one Secret, stand for.

    Raises:
        ValueError: a file without its companion, none that is known, or one that is no text. The message
            names files and never what is in them.
    """
    found = {name: files[name] for name in CREDENTIAL_FILES if name in files}
    if not found:
        raise ValueError(f"holds none of {', '.join(CREDENTIAL_FILES)}")
    for one, other in _PAIRS:
        if (one in found) != (other in found):
            raise ValueError(f"holds one of {one} and {other}, which belong together")
    properties = {}
    for name, content in found.items():
        if len(content) > CREDENTIAL_BYTES_MAX:
            raise ValueError(f"{name} is longer than {CREDENTIAL_BYTES_MAX} bytes")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{name} is no UTF-8 text") from None
        properties[CREDENTIAL_FILES[name]] = text.rstrip("\r\n") if name in _OF_ONE_LINE else text
    return properties
