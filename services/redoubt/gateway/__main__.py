"""`python -m redoubt.gateway`: one gateway process for the site that REDOUBT_SITE names."""

import sys

import uvicorn

from redoubt import log
from redoubt.errors import RedoubtError
from redoubt.gateway.app import create
from redoubt.settings import GatewaySettings, load_site

SHUTDOWN_S = 10


def main() -> int:
    """Serve until told to stop; the exit code is the error's own."""
    log.configure("gateway")
    try:
        site, settings = load_site(), GatewaySettings()
        app = create(site, settings)
    except RedoubtError as error:
        log.get(__name__).error("cannot_start", **error.as_dict())
        return error.exit_code
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
