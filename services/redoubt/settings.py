"""Settings, frozen, one class a service: built once at the entry point and passed down.

A site is described by one file, `site.toml`; `REDOUBT_SITE` names it. Environment variables
(`REDOUBT_GATEWAY_…`, `REDOUBT_INGEST_…`) change a single service.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from redoubt.errors import InputError, NotFound

Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Catalog(_Part):
    """How the catalogue is reached; each service connects with a role of its own."""

    dsn: str = Field(description="libpq connection string without a user; peer or certificate authentication")
    admin_role: str = "redoubt_admin"
    gateway_role: str = "redoubt_gateway"
    ingest_role: str = "redoubt_ingest"
    exporter_role: str = "redoubt_exporter"

    def dsn_for(self, role: str) -> str:
        """The connection string with `role` as its user."""
        return f"{self.dsn} user={role}"


class Embedder(_Part):
    """The vLLM instance that embeds, and the files it serves."""

    url: str = Field(description="http://host:port, or unix:///path/to/socket")
    model: str = Field(description="the served model name")
    path: Path = Field(description="the model directory: tokenizer for chunking, weights for the digest")
    api_key: str | None = None
    max_tokens: int = Field(256, description="tokens a chunk, special tokens and heading path included")


class Gateway(_Part):
    """Where the gateway is, as a client sees it."""

    url: str
    key_file: Path | None = Field(None, description="the key that `redoubt ask` uses when none is given")
    ca_file: Path | None = None


class Site(_Part):
    """`site.toml`: everything that the CLI and the services need to find each other."""

    name: str
    catalog: Catalog
    embedder: Embedder
    gateway: Gateway
    index: str = Field("main", description="the index that is meant when none is named")


def home() -> Path:
    """Where an embedded site keeps all of its state: `REDOUBT_HOME`, else by the XDG rules.

    Root gets /var/lib/redoubt: Postgres runs under an account of its own there, which cannot enter /root.
    """
    if named := os.environ.get("REDOUBT_HOME"):
        return Path(named).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/lib/redoubt")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "redoubt"


def site_file() -> Path:
    """The site that a command speaks of: `REDOUBT_SITE`, else the embedded one of `REDOUBT_HOME`."""
    named = os.environ.get("REDOUBT_SITE")
    return Path(named).expanduser() if named else home() / "site.toml"


def load_site(path: Path | None = None) -> Site:
    """Read and check `site.toml`."""
    path = path or site_file()
    try:
        return Site.model_validate(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no site at {path}",
            why="no embedded site was started here, and REDOUBT_SITE names no other",
            fix="start one with `redoubt up --docs DIR`, or set REDOUBT_SITE to a site.toml",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a TOML file", why=str(error), fix="mend it or start the site anew") from error
    except ValidationError as error:
        raise InputError(f"{path} does not describe a site", why=explain(error)) from error


def explain(error: ValidationError) -> str:
    """Pydantic's findings in one line, without the offending values: those may be secrets."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_input=False)
    )


class GatewaySettings(BaseSettings):
    """One gateway process."""

    model_config = SettingsConfigDict(env_prefix="REDOUBT_GATEWAY_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Port = 8460
    top_k: int = Field(8, ge=1, le=100, description="passages considered for an answer")
    quotes: int = Field(4, ge=1, le=20, description="quotes an answer shows at most")
    candidates: int = Field(100, ge=10, le=1000, description="candidates a search leg, before fusion")
    embed_timeout_s: float = Field(10.0, gt=0, description="seconds to wait for the embedder")
    catalog_timeout_s: float = Field(5.0, gt=0, description="seconds to wait for the catalogue")
    pool_size: int = Field(8, ge=1, le=100, description="catalogue connections")
    body_timeout_s: float = Field(30.0, gt=0, description="seconds a client may take to send its request's body")
    max_body_bytes: int = Field(1_000_000, ge=1000, description="largest accepted request body, bytes")
    key_cache_s: float = Field(30.0, ge=0, description="seconds a checked key is believed without a notification")


class IngestSettings(BaseSettings):
    """One ingest worker."""

    model_config = SettingsConfigDict(env_prefix="REDOUBT_INGEST_", frozen=True, extra="forbid")

    concurrency: int = Field(4, ge=1, le=64, description="documents in work at once")
    scan_interval_s: float = Field(30.0, gt=0, description="seconds between full scans of a source")
    max_bytes: int = Field(100_000_000, ge=1, description="largest accepted file, bytes")
    max_text_chars: int = Field(20_000_000, ge=1, description="largest extracted text, characters")
    parse_timeout_s: float = Field(60.0, gt=0, description="seconds a parser may take for one document")
    parse_memory_bytes: int = Field(1_500_000_000, ge=1, description="address space of a parser, bytes")
    embed_batch: int = Field(32, ge=1, le=1024, description="texts an embedding request")
    embed_in_flight: int = Field(4, ge=1, le=64, description="embedding requests at once")
    embed_timeout_s: float = Field(120.0, gt=0, description="seconds to wait for one embedding request")
    attempts: int = Field(8, ge=1, description="tries before a document is parked for a failing service")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="0: metrics are served on a unix socket only")


def dump_site(site: Site) -> str:
    """`site.toml` as text; the inverse of `load_site`."""

    def value(v: Any) -> str:
        return str(v) if isinstance(v, int | float) else '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"'

    fields = site.model_dump(exclude_none=True)
    lines = [f"{k} = {value(v)}" for k, v in fields.items() if not isinstance(v, dict)]
    for table, content in fields.items():
        if isinstance(content, dict):
            lines += ["", f"[{table}]", *(f"{k} = {value(v)}" for k, v in content.items())]
    return "\n".join(lines) + "\n"
