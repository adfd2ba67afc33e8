"""`python -m redoubt.gateway`: one gateway process for the site that REDOUBT_SITE names."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from redoubt import log
from redoubt.errors import InputError, RedoubtError
from redoubt.gateway.app import create
from redoubt.settings import GatewaySettings, explain, load_site

SHUTDOWN_S = 10


def configured(app: FastAPI, **where: Any) -> uvicorn.Config:
    """How uvicorn serves: quiet about itself, believing no proxy, finishing what it began."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **where,
    )


def main() -> int:
    """Serve until told to stop; the exit code is the error's own."""
    log.configure("gateway")
    try:
        site, settings = load_site(), GatewaySettings()
        app = create(site, settings)
    except ValidationError as error:
        wrong = InputError("a REDOUBT_GATEWAY_ setting is wrong", why=explain(error), fix="see the settings' reference")
        log.get(__name__).error("cannot_start", **wrong.as_dict())
        return wrong.exit_code
    except RedoubtError as error:
        log.get(__name__).error("cannot_start", **error.as_dict())
        return error.exit_code
    uvicorn.Server(configured(app, host=settings.host, port=settings.port)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
