-- One generation: a schema of its own, so that dropping it is one statement. {schema} and {dimensions} are filled in.

CREATE SCHEMA {schema};
CREATE SEQUENCE {schema}.chunk_no AS int;
CREATE SEQUENCE {schema}.segment_no AS bigint;

-- What the generation holds; its row is also what two writers of one document wait for.
CREATE TABLE {schema}.document (
    document_id uuid PRIMARY KEY,
    version     int NOT NULL,
    acl_id      int,                                  -- NULL: nobody
    chunks      int NOT NULL
);

-- Who may read a chunk, and whether it is there at all: a narrow row, because every search reads many of them.
-- `no` is a small number that stands for the chunk in postings and vectors; it is never used twice.
CREATE TABLE {schema}.chunk (
    no          int PRIMARY KEY,
    document_id uuid NOT NULL,
    acl_id      int
);
CREATE INDEX chunk_document ON {schema}.chunk (document_id);
CREATE INDEX chunk_acl ON {schema}.chunk (acl_id, no);

-- What a hit shows.
CREATE TABLE {schema}.passage (
    no         int PRIMARY KEY,
    id         uuid NOT NULL,
    version    int  NOT NULL,
    ordinal    int  NOT NULL,
    title      text NOT NULL,
    heading    text[] NOT NULL,
    text       text NOT NULL,
    start_char int  NOT NULL,
    end_char   int  NOT NULL,
    page       int,
    config     text NOT NULL
);

-- Apart from the chunk: a changed ACL is a new row version there, and must not become a new graph node here.
CREATE TABLE {schema}.vector (
    no        int PRIMARY KEY,
    embedding halfvec({dimensions}) NOT NULL          -- L2-normalised
);
ALTER TABLE {schema}.vector ALTER embedding SET STORAGE PLAIN;

-- The forward index: a chunk's terms (hashed with their text-search configuration) and how often each occurs.
CREATE TABLE {schema}.lexical (
    no     int PRIMARY KEY,
    config text NOT NULL,
    length int NOT NULL,                              -- terms, with repetition
    terms  bigint[] NOT NULL,
    counts smallint[] NOT NULL
);
ALTER TABLE {schema}.lexical ALTER terms SET STORAGE MAIN, ALTER counts SET STORAGE MAIN;

-- The inverted index: immutable rows, one a term and segment. A write adds a small segment of its own (level 0), whose
-- df is negative where it took chunks away; a merge makes one of many. Nothing is ever updated in place.
CREATE TABLE {schema}.posting (
    term    bigint NOT NULL,
    segment bigint NOT NULL,
    df      int NOT NULL,                             -- chunks that came less chunks that went
    nos     int[] NOT NULL,                           -- ascending
    counts  smallint[] NOT NULL,
    impacts real[] NOT NULL                           -- BM25 without IDF, by the average length of the segment's making
);
ALTER TABLE {schema}.posting
    ALTER nos SET STORAGE EXTERNAL, ALTER counts SET STORAGE EXTERNAL, ALTER impacts SET STORAGE EXTERNAL;
CREATE INDEX posting_term ON {schema}.posting (term);
CREATE INDEX posting_segment ON {schema}.posting USING brin (segment) WITH (pages_per_range = 16);
CREATE TABLE {schema}.segment (
    segment bigint PRIMARY KEY,
    level   int NOT NULL,
    chunks  bigint NOT NULL                           -- that it has postings of, those included that went since
);

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
GRANT SELECT ON {schema}.document, {schema}.segment, {schema}.tally TO redoubt_exporter;
