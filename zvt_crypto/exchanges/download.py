"""A file of a public archive over HTTP."""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING, Final

from zvt_crypto.core.errors import ArchiveUnusable, ProviderUnavailable, ZvtCryptoError
from zvt_crypto.exchanges.ccxt_errors import readable

if TYPE_CHECKING:
    import aiohttp

_CHUNK: Final = 1 << 16
#: Statuses that may be others the next time, beside those from 500 on.
_PASSING: Final = (408, 425, 429)


async def receive(
    session: aiohttp.ClientSession, url: str, target: IO[bytes], largest: int, timeout_seconds: float
) -> None:
    """Write what lies at an address, as it is sent, over what a file holds.

    Args:
        session: Whose connections to use.
        url: The address.
        target: The file.
        largest: Most bytes to accept.
        timeout_seconds: Longest wait for a connection, and for the next bytes.

    Raises:
        ProviderUnavailable: The host cannot be reached, breaks off, or says that it has troubles.
        ArchiveUnusable: There is no such file, it is too large, or it cannot be kept.
    """
    import aiohttp  # loaded with ccxt, and not before something is asked

    waits = aiohttp.ClientTimeout(total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds)
    try:
        # A packed file must stay packed, whatever encoding its host calls that.
        async with session.get(url, timeout=waits, auto_decompress=False) as response:
            if response.status != 200:
                raise _refused(url, response.status, await response.content.read(_CHUNK))
            await _keep(response, url, target, largest)
    except asyncio.TimeoutError as error:
        raise ProviderUnavailable(f"no answer in time from {url}") from error
    except aiohttp.ClientError as error:
        raise ProviderUnavailable(
            f"{url} cannot be fetched: {readable(str(error) or repr(error))}"
        ) from error


async def _keep(response: aiohttp.ClientResponse, url: str, target: IO[bytes], largest: int) -> None:
    size = 0
    _write(target, b"", url)
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > largest:
            raise ArchiveUnusable(f"{url} is larger than any such file should be")
        _write(target, chunk, url)


def _write(target: IO[bytes], chunk: bytes, url: str) -> None:
    """Append a chunk; an empty one begins anew."""
    try:
        if not chunk:
            target.seek(0)
            target.truncate()
        target.write(chunk)
    except OSError as error:
        raise ArchiveUnusable(f"{url} cannot be kept in a temporary file: {error}") from error


def _refused(url: str, status: int, body: bytes) -> ZvtCryptoError:
    if status == 404:
        return ArchiveUnusable(f"the archive has no {url}")
    kind = ProviderUnavailable if status >= 500 or status in _PASSING else ArchiveUnusable
    return kind(f"{url} answers HTTP {status}: {readable(body.decode('utf-8', 'replace'))}")
