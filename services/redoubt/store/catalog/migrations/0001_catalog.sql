-- The catalogue: what the site holds, who may see it, what is still to be done, and what was asked.
-- Times are timestamptz (UTC). Nothing here depends on which store holds the chunks.

CREATE EXTENSION IF NOT EXISTS vector;

-- Indexes and their generations ---------------------------------------------------------------

CREATE TABLE index (
    id                     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name                   text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    live_generation_id     uuid,
    previous_generation_id uuid,          -- kept for rollback
    generator              text,          -- the model that answers for it; NULL: quote mode only
    created_at             timestamptz NOT NULL DEFAULT now()
);

-- α and the refusal threshold come from an evaluation; each change is a new row.
CREATE TABLE index_tuning (
    index_id   uuid NOT NULL REFERENCES index ON DELETE CASCADE,
    version    int  NOT NULL,
    alpha      double precision NOT NULL CHECK (alpha BETWEEN 0 AND 1),
    threshold  double precision NOT NULL CHECK (threshold BETWEEN 0 AND 1),
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_id, version)
);

CREATE TABLE generation (
    id              uuid PRIMARY KEY,
    index_id        uuid NOT NULL REFERENCES index ON DELETE CASCADE,
    number          int  NOT NULL,
    backend         text NOT NULL CHECK (backend IN ('pgvector', 'weaviate')),
    embedder        text NOT NULL,
    embedder_digest text NOT NULL,
    dimensions      int  NOT NULL,
    max_tokens      int  NOT NULL,
    state           text NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retired', 'dropped')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    state_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (index_id, number)
);
ALTER TABLE index ADD FOREIGN KEY (live_generation_id) REFERENCES generation DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE index ADD FOREIGN KEY (previous_generation_id) REFERENCES generation DEFERRABLE INITIALLY DEFERRED;

-- One row a swap, so that what was served when can be told. Models and scores join it later.
CREATE TABLE release (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id      uuid NOT NULL REFERENCES index ON DELETE CASCADE,
    generation_id uuid NOT NULL REFERENCES generation,
    tuning        int  NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('create', 'swap', 'rollback')),
    actor         text NOT NULL,
    released_at   timestamptz NOT NULL DEFAULT now()
);

-- Access ----------------------------------------------------------------------------------------

-- Each distinct set of groups once: a chunk carries one integer, and the filter is "= ANY".
CREATE TABLE acl (
    id     int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    groups text[] NOT NULL UNIQUE CHECK (cardinality(groups) > 0)   -- sorted, distinct
);
CREATE INDEX acl_groups ON acl USING gin (groups);

CREATE TABLE api_key (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE,      -- SHA-256 of a 256-bit random secret: nothing to guess, so no slow hash
    groups     text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_key_name ON api_key (name) WHERE revoked_at IS NULL;

CREATE FUNCTION notify_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('redoubt_key', COALESCE(NEW.id, OLD.id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER api_key_changed AFTER UPDATE OR DELETE ON api_key FOR EACH ROW EXECUTE FUNCTION notify_key();

-- Sources and documents ---------------------------------------------------------------------------

CREATE TABLE source (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name              text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    kind              text NOT NULL CHECK (kind IN ('folder')),
    config            jsonb NOT NULL,      -- ingest.sources reads it; see the reference of source files
    index_id          uuid NOT NULL REFERENCES index,
    objective_seconds double precision NOT NULL DEFAULT 60,   -- change → searchable
    created_at        timestamptz NOT NULL DEFAULT now(),
    scan_started_at   timestamptz,
    last_success_at   timestamptz,         -- a whole scan went through, with or without a change
    last_error        text,
    removed_at        timestamptz          -- set first; the worker then removes what it brought in
);

CREATE TABLE document (
    id            uuid PRIMARY KEY,
    source_id     uuid NOT NULL REFERENCES source,
    path          text COLLATE "C" NOT NULL, -- relative to the source, "/" between parts; a folder is a range of bytes
    version       int  NOT NULL,           -- the newest searchable one
    content_hash  bytea NOT NULL,          -- SHA-256 of the file's bytes
    size          bigint NOT NULL,         -- bytes
    stamp         text NOT NULL,           -- file | sidecar | rules | form: cheap tokens; equal ones need no reading
    title         text NOT NULL,
    config        text NOT NULL,           -- text-search configuration
    acl_id        int REFERENCES acl,      -- NULL: nobody may read it
    as_of         timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    searchable_at timestamptz NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);
CREATE UNIQUE INDEX document_path ON document (source_id, path) WHERE deleted_at IS NULL;
CREATE INDEX document_hash ON document (source_id, content_hash);
CREATE INDEX document_acl ON document (acl_id) WHERE deleted_at IS NULL;

CREATE TABLE document_version (
    document_id   uuid NOT NULL REFERENCES document ON DELETE CASCADE,
    number        int  NOT NULL,
    content_hash  bytea NOT NULL,
    text          text,                    -- NULL once superseded or deleted
    sections      jsonb,                   -- likewise; [[start, end, [heading, …], page, kind], …]
    as_of         timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    searchable_at timestamptz NOT NULL,
    ended_at      timestamptz,             -- superseded or deleted
    PRIMARY KEY (document_id, number)
);

-- Which version of a document each generation holds; for a store outside Postgres, pending until confirmed.
CREATE TABLE indexed (
    generation_id uuid NOT NULL REFERENCES generation,
    document_id   uuid NOT NULL REFERENCES document ON DELETE CASCADE,
    version       int  NOT NULL,
    chunks        int  NOT NULL,
    confirmed_at  timestamptz,
    PRIMARY KEY (generation_id, document_id)
);

-- What a scan found and the worker has not finished: the backlog, and the parked.
CREATE TABLE pending (
    source_id   uuid NOT NULL REFERENCES source,
    path        text COLLATE "C" NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('write', 'delete')),
    stamp       text NOT NULL DEFAULT '',
    changed_at  timestamptz NOT NULL,      -- when the source changed, as far as can be told
    detected_at timestamptz NOT NULL DEFAULT now(),
    attempts    int  NOT NULL DEFAULT 0,
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'failed')),
    reason      text,                      -- model.Reason
    detail      text,                      -- for a person; no document text
    state_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_id, path)
);

-- Audit ---------------------------------------------------------------------------------------------

CREATE TABLE audit (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    request_id    uuid NOT NULL,
    key_id        uuid,                    -- NULL: no valid key was shown
    route         text NOT NULL,
    index         text,
    model         text,
    outcome       text NOT NULL CHECK (outcome IN ('answered', 'refused', 'error', 'cancelled', 'rejected')),
    reason        text,
    status        int  NOT NULL,           -- HTTP
    question_hash bytea,                   -- SHA-256; the question itself is never stored
    documents     jsonb NOT NULL DEFAULT '[]',  -- [[document id, version], …] that were shown
    duration_ms   double precision NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
