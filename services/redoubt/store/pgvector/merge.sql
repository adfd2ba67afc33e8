-- Merging segments. What it reads is immutable, and what it takes away it puts back in the same statement: killed at any
-- point it leaves nothing behind, and searches before and after find the same.

-- name: segments
SELECT segment, level, chunks FROM {schema}.segment ORDER BY segment;

-- name: merge
WITH taken AS (
    DELETE FROM {schema}.segment WHERE segment = ANY (%(segments)s) RETURNING chunks
), parts AS (
    DELETE FROM {schema}.posting WHERE segment = ANY (%(segments)s) RETURNING term, df, nos, counts
), numbered AS (
    INSERT INTO {schema}.segment (segment, level, chunks)
    SELECT nextval('{schema}.segment_no'), %(level)s, coalesce(%(chunks)s, sum(chunks)) FROM taken
    RETURNING segment
), lengths AS (
    SELECT greatest(1, sum(length)::float8 / greatest(1, sum(chunks))) AS average FROM {schema}.tally
), present AS (
    SELECT t.term, t.no, t.count, l.length
    FROM (SELECT term, unnest(nos) AS no, unnest(counts) AS count FROM parts) AS t
    JOIN {schema}.lexical AS l USING (no)
), grouped AS (
    SELECT p.term, array_agg(p.no ORDER BY p.no) AS nos, array_agg(p.count ORDER BY p.no) AS counts,
           array_agg((p.count * 2.2 / (p.count + 1.2 * (0.25 + 0.75 * p.length / lengths.average)))::real ORDER BY p.no)
               AS impacts
    FROM present AS p, lengths GROUP BY 1
), frequencies AS (
    SELECT term, sum(df) AS df FROM parts GROUP BY 1
)
INSERT INTO {schema}.posting (term, segment, df, nos, counts, impacts)
SELECT term, n.segment, f.df, coalesce(g.nos, '{}'), coalesce(g.counts, '{}'), coalesce(g.impacts, '{}')
FROM frequencies AS f LEFT JOIN grouped AS g USING (term), numbered AS n
WHERE f.df <> 0 OR g.term IS NOT NULL;

-- name: tally
WITH taken AS (DELETE FROM {schema}.tally RETURNING acl_id, config, chunks, length)
INSERT INTO {schema}.tally (acl_id, config, chunks, length)
SELECT acl_id, config, sum(chunks), sum(length) FROM taken GROUP BY acl_id, config HAVING sum(chunks) <> 0;

-- name: tallies
SELECT count(*), coalesce(sum(chunks), 0)::bigint FROM {schema}.tally;

-- name: graph
SELECT i.indisvalid FROM pg_index AS i WHERE i.indexrelid = to_regclass('{schema}.vector_graph');

-- name: build_graph
CREATE INDEX CONCURRENTLY vector_graph ON {schema}.vector USING hnsw (embedding halfvec_ip_ops) WITH (m = 16);

-- name: drop_graph
DROP INDEX IF EXISTS {schema}.vector_graph;

-- name: statistics
ANALYZE {schema}.chunk, {schema}.vector, {schema}.lexical, {schema}.passage, {schema}.posting;
