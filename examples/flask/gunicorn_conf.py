"""Settings of gunicorn: each process opens its own pool after the fork, and closes it in its end."""


def post_worker_init(worker) -> None:
    from app import pool

    pool.open()


def worker_exit(server, worker) -> None:
    from app import pool

    pool.close()
