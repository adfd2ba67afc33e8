-- One generation: a schema of its own, so that dropping it is one statement. {schema} and {dimensions} are filled in.

CREATE SCHEMA {schema};

-- What a hit shows and who may see it. `no` is a small number that stands for the chunk in postings and vectors.
CREATE TABLE {schema}.chunk (
    no          int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    document_id uuid NOT NULL,
    version     int  NOT NULL,
    ordinal     int  NOT NULL,
    acl_id      int,
    title       text NOT NULL,
    heading     text[] NOT NULL,
    text        text NOT NULL,
    start_char  int  NOT NULL,
    end_char    int  NOT NULL,
    page        int
);
CREATE INDEX ON {schema}.chunk (document_id);
CREATE INDEX ON {schema}.chunk (acl_id, no);

-- Apart from the chunk: a changed ACL is a new row version there, and must not become a new graph node here.
CREATE TABLE {schema}.vector (
    no        int PRIMARY KEY,
    embedding halfvec({dimensions}) NOT NULL          -- L2-normalised
);
ALTER TABLE {schema}.vector ALTER embedding SET STORAGE PLAIN;

-- The forward index: a chunk's terms (hashed with their text-search configuration) and how often each occurs.
CREATE TABLE {schema}.lexical (
    no     int PRIMARY KEY,
    length int NOT NULL,                              -- terms, with repetition
    config text NOT NULL,
    terms  bigint[] NOT NULL,
    counts smallint[] NOT NULL
);

-- The inverted index: immutable segments, one array a term, and a flat delta of what came and went since.
CREATE TABLE {schema}.posting (
    term    bigint NOT NULL,
    segment int NOT NULL,
    df      int NOT NULL,                             -- chunks that came less chunks that went
    nos     int[] NOT NULL,
    impacts real[] NOT NULL,                          -- term frequency, saturated and length-normalised at the merge
    PRIMARY KEY (term, segment)
);
ALTER TABLE {schema}.posting ALTER nos SET STORAGE EXTERNAL, ALTER impacts SET STORAGE EXTERNAL;
CREATE TABLE {schema}.delta (
    term   bigint NOT NULL,
    no     int NOT NULL,
    count  smallint NOT NULL,
    length int NOT NULL,
    sign   smallint NOT NULL                          -- 1: came, -1: went
);
CREATE INDEX ON {schema}.delta (term);

-- How many chunks, and how long, by who may read them; appended by each write, folded by each merge.
CREATE TABLE {schema}.tally (
    acl_id int,
    config text NOT NULL,
    chunks int NOT NULL,
    length bigint NOT NULL
);

CREATE FUNCTION {schema}.terms(config text, content text) RETURNS TABLE (term bigint, count int)
LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(config || ' ' || lexeme, 0), cardinality(positions)
    FROM unnest(to_tsvector(config::regconfig, content))
$$;

GRANT USAGE ON SCHEMA {schema} TO redoubt_gateway, redoubt_exporter;
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO redoubt_gateway;
GRANT SELECT ON {schema}.posting, {schema}.delta, {schema}.tally TO redoubt_exporter;
