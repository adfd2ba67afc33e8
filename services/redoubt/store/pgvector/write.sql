-- One batch: the old chunks of its documents go, the new ones come, in the caller's transaction. Every change of a
-- document locks its row first, in a statement of its own: the next ones then see what the other writer committed.

-- name: lock
SELECT FROM {schema}.document WHERE document_id = ANY (%(documents)s) ORDER BY document_id FOR UPDATE;

-- name: claim
INSERT INTO {schema}.document (document_id, version, acl_id, chunks)
SELECT * FROM unnest(%(documents)s::uuid[], %(versions)s::int[], %(acls)s::int[], %(chunks)s::int[]) AS d (id) ORDER BY d.id
ON CONFLICT (document_id) DO UPDATE
SET version = EXCLUDED.version, acl_id = EXCLUDED.acl_id, chunks = EXCLUDED.chunks;

-- name: remove
DELETE FROM {schema}.document WHERE document_id = ANY (%(documents)s);

-- name: retract
WITH gone AS (
    DELETE FROM {schema}.chunk WHERE document_id = ANY (%(documents)s) RETURNING no, acl_id
), passages AS (
    DELETE FROM {schema}.passage WHERE no IN (SELECT no FROM gone)
), vectors AS (
    DELETE FROM {schema}.vector WHERE no IN (SELECT no FROM gone)
), analysed AS (
    DELETE FROM {schema}.lexical WHERE no IN (SELECT no FROM gone) RETURNING no, config, length, terms
), tallied AS (
    INSERT INTO {schema}.tally (acl_id, config, chunks, length)
    SELECT gone.acl_id, a.config, -count(*), -sum(a.length) FROM gone JOIN analysed AS a USING (no) GROUP BY 1, 2
), numbered AS (
    INSERT INTO {schema}.segment (segment, level, chunks)
    SELECT nextval('{schema}.segment_no'), 0, 0 WHERE EXISTS (SELECT FROM analysed)
    RETURNING segment
)
INSERT INTO {schema}.posting (term, segment, df, nos, counts, impacts)
SELECT t.term, numbered.segment, -count(*), '{}', '{}', '{}'
FROM numbered, analysed, unnest(analysed.terms) AS t (term)
GROUP BY 1, 2;

-- name: number
SELECT nextval('{schema}.chunk_no') FROM generate_series(1, %(count)s);

-- name: copy_chunks
COPY {schema}.chunk (no, document_id, acl_id) FROM STDIN (FORMAT binary);

-- name: copy_passages
COPY {schema}.passage (no, id, version, ordinal, title, heading, text, start_char, end_char, page, config)
FROM STDIN (FORMAT binary);

-- name: copy_vectors
COPY {schema}.vector (no, embedding) FROM STDIN (FORMAT binary);

-- name: analyse
-- The title three times: what a document is about weighs most (measured; see docs/benchmarks.md).
WITH analysed AS (
    INSERT INTO {schema}.lexical (no, config, length, terms, counts)
    SELECT p.no, p.config, coalesce(t.length, 0), coalesce(t.terms, '{}'), coalesce(t.counts, '{}')
    FROM unnest(%(nos)s::int[]) AS n (no) JOIN {schema}.passage AS p USING (no),
         LATERAL (
             SELECT sum(count)::int AS length, array_agg(term) AS terms, array_agg(count::smallint) AS counts
             FROM {schema}.terms(p.config, concat_ws(E'\n', p.title, p.title, p.title, array_to_string(p.heading, E'\n'), p.text))
         ) AS t
    RETURNING no, config, length, terms, counts
), tallied AS (
    INSERT INTO {schema}.tally (acl_id, config, chunks, length)
    SELECT c.acl_id, a.config, count(*), sum(a.length) FROM analysed AS a
    JOIN unnest(%(nos)s::int[], %(acls)s::int[]) AS c (no, acl_id) USING (no) GROUP BY 1, 2
), numbered AS (
    INSERT INTO {schema}.segment (segment, level, chunks)
    SELECT nextval('{schema}.segment_no'), 0, cardinality(%(nos)s::int[])
    RETURNING segment
), lengths AS (
    SELECT greatest(1, sum(length)::float8 / greatest(1, sum(chunks))) AS average
    FROM (
        SELECT length, chunks FROM {schema}.tally UNION ALL SELECT sum(length), count(*) FROM analysed
    ) AS all_of_it
)
INSERT INTO {schema}.posting (term, segment, df, nos, counts, impacts)
SELECT t.term, n.segment, count(*), array_agg(a.no ORDER BY a.no), array_agg(t.count ORDER BY a.no),
       array_agg((t.count * 2.2 / (t.count + 1.2 * (0.25 + 0.75 * a.length / lengths.average)))::real ORDER BY a.no)
FROM numbered AS n, lengths, analysed AS a, unnest(a.terms, a.counts) AS t (term, count)
GROUP BY 1, 2;

-- name: set_acl
WITH opened AS (
    UPDATE {schema}.document SET acl_id = %(acl)s WHERE document_id = ANY (%(documents)s) RETURNING document_id
), moved AS (
    UPDATE {schema}.chunk AS c SET acl_id = %(acl)s
    FROM opened JOIN {schema}.chunk AS old USING (document_id)
    WHERE c.no = old.no AND old.acl_id IS DISTINCT FROM %(acl)s
    RETURNING c.no, old.acl_id AS before
), changed AS (
    SELECT m.before, l.config, count(*) AS chunks, sum(l.length) AS length
    FROM moved AS m JOIN {schema}.lexical AS l USING (no) GROUP BY 1, 2
)
INSERT INTO {schema}.tally (acl_id, config, chunks, length)
SELECT before, config, -chunks, -length FROM changed
UNION ALL
SELECT %(acl)s, config, chunks, length FROM changed;

-- name: contents
SELECT document_id, version, acl_id, chunks FROM {schema}.document ORDER BY document_id;
