"""Images in shared memory: one process writes the pixels, another one reads them."""

from __future__ import annotations

import os
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import OutOfMemoryError

_KEPT_BYTES = 64 * 2**20  # a larger block serves one image only, so that no worker sits on the memory of a huge one


class ImageWriter:
    """Owns a block of shared memory, and makes a larger one when an image needs it.

    A block has a name only until the reader has opened it, so that it goes with the two processes, however they end.
    """

    def __init__(self) -> None:
        self._block: SharedMemory | None = None
        self._has_name = False

    def write(self, pixels: NDArray[np.uint8]) -> str:
        """Write an image; gives the name of the block that the reader has to open, "" if it has done so before.

        Raises:
            OutOfMemoryError: the machine has not enough shared memory.
        """
        name = ""
        if self._block is None or self._block.size < pixels.nbytes:
            self.close()
            self._block, self._has_name = _new_block(pixels.nbytes), True
            name = self._block.name
        np.copyto(np.ndarray(pixels.shape, np.uint8, self._block.buf), pixels)
        return name

    def was_read(self, *, well: bool) -> None:
        """To be called when the reader has answered; not `well`: it may not have opened the block."""
        if self._block is None or not well or self._block.size > _KEPT_BYTES:
            self.close()
        elif self._has_name:
            self._block.unlink()
            self._has_name = False

    def close(self) -> None:
        """Give the memory back."""
        block, self._block = self._block, None
        if block is not None:
            block.close()
            if self._has_name:
                block.unlink()


class ImageReader:
    """The other end of an `ImageWriter`."""

    def __init__(self) -> None:
        self._block: SharedMemory | None = None

    def read(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Give a copy of the image, since a model keeps its last one."""
        if name:
            self.close()
            self._block = SharedMemory(name)
        assert self._block is not None
        pixels = np.ndarray(shape, np.uint8, self._block.buf).copy()
        if self._block.size > _KEPT_BYTES:
            self.close()
        return pixels

    def close(self) -> None:
        """Give the memory back."""
        if self._block is not None:
            self._block.close()
            self._block = None


def _new_block(size: int) -> SharedMemory:
    try:
        block = SharedMemory(create=True, size=size)
        try:
            if hasattr(os, "posix_fallocate"):  # else writing to more than there is ends the process with SIGBUS
                os.posix_fallocate(block._fd, 0, size)  # type: ignore[attr-defined]
        except BaseException:
            block.close()
            block.unlink()
            raise
    except OSError as error:
        raise OutOfMemoryError(
            f"There is no room for an image of {size / 2**20:.0f} MB in shared memory ({error.strerror}); give it more "
            "(in a container: --shm-size), or use a pool of threads."
        ) from error
    return block
