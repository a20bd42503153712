"""Connection to a Ray cluster, for work that is divided among machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cxr_isnet.config import require_extra
from cxr_isnet.errors import InputError


@contextmanager
def ray_cluster(address: str) -> Iterator[None]:
    """Connects to a Ray cluster for the block; `ray` can be imported and used inside.

    Args:
        address: Of the cluster's head, as `ray://host:10001` or `auto`; `local` starts one on this machine.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    require_extra(f"ray '{address}'", "ray", "ray")
    import ray

    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"ray is '{address}': no cluster answers there ({type(error).__name__}: {error})") from error
    try:
        yield
    finally:
        ray.shutdown()
