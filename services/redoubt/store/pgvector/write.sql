-- One batch: the old chunks of its documents go, the new ones come, in the caller's transaction.

-- name: retract_lexical
WITH gone AS (
    SELECT c.no, c.acl_id, l.length, l.config, l.terms, l.counts
    FROM {schema}.chunk AS c JOIN {schema}.lexical AS l USING (no)
    WHERE c.document_id = ANY (%(documents)s)
), tallied AS (
    INSERT INTO {schema}.tally (acl_id, config, chunks, length)
    SELECT acl_id, config, -count(*), -sum(length) FROM gone GROUP BY acl_id, config
)
INSERT INTO {schema}.delta (term, no, count, length, sign)
SELECT u.term, gone.no, u.count, gone.length, -1 FROM gone, unnest(gone.terms, gone.counts) AS u (term, count);

-- name: retract_chunks
WITH gone AS (
    DELETE FROM {schema}.chunk WHERE document_id = ANY (%(documents)s) RETURNING no
), vectors AS (
    DELETE FROM {schema}.vector WHERE no IN (SELECT no FROM gone)
)
DELETE FROM {schema}.lexical WHERE no IN (SELECT no FROM gone);

-- name: stage
CREATE TEMPORARY TABLE staged (
    id uuid, document_id uuid, version int, ordinal int, acl_id int, title text, heading text[], text text,
    start_char int, end_char int, page int, config text, embedding halfvec
) ON COMMIT DROP;

-- name: place
WITH new AS (
    INSERT INTO {schema}.chunk (id, document_id, version, ordinal, acl_id, title, heading, text, start_char, end_char, page)
    SELECT id, document_id, version, ordinal, acl_id, title, heading, text, start_char, end_char, page FROM staged
    RETURNING no, id
), analysed AS (
    SELECT new.no, staged.acl_id, staged.config, sum(t.count)::int AS length, array_agg(t.term) AS terms,
           array_agg(least(t.count, 32767)::smallint) AS counts
    FROM new JOIN staged USING (id),
         {schema}.terms(staged.config, concat_ws(' ', staged.title, array_to_string(staged.heading, ' '), staged.text)) AS t
    GROUP BY new.no, staged.acl_id, staged.config
), filled AS (
    SELECT new.no, staged.acl_id, staged.config, coalesce(a.length, 0) AS length,
           coalesce(a.terms, '{}') AS terms, coalesce(a.counts, '{}') AS counts
    FROM new JOIN staged USING (id) LEFT JOIN analysed AS a USING (no)
), vectors AS (
    INSERT INTO {schema}.vector (no, embedding) SELECT new.no, staged.embedding FROM new JOIN staged USING (id)
), forward AS (
    INSERT INTO {schema}.lexical (no, length, config, terms, counts)
    SELECT no, length, config, terms, counts FROM filled
), tallied AS (
    INSERT INTO {schema}.tally (acl_id, config, chunks, length)
    SELECT acl_id, config, count(*), sum(length) FROM filled GROUP BY acl_id, config
)
INSERT INTO {schema}.delta (term, no, count, length, sign)
SELECT u.term, filled.no, u.count, filled.length, 1 FROM filled, unnest(filled.terms, filled.counts) AS u (term, count);

-- name: unstage
DROP TABLE staged;

-- name: set_acl
WITH moved AS (
    UPDATE {schema}.chunk AS c SET acl_id = %(acl)s
    FROM {schema}.chunk AS old
    WHERE c.no = old.no AND c.document_id = ANY (%(documents)s) AND old.acl_id IS DISTINCT FROM %(acl)s
    RETURNING c.no, old.acl_id AS before
)
INSERT INTO {schema}.tally (acl_id, config, chunks, length)
SELECT m.before, l.config, -count(*), -sum(l.length) FROM moved AS m JOIN {schema}.lexical AS l USING (no) GROUP BY 1, 2
UNION ALL
SELECT %(acl)s, l.config, count(*), sum(l.length) FROM moved AS m JOIN {schema}.lexical AS l USING (no) GROUP BY 1, 2;

-- name: contents
SELECT document_id, min(version), min(acl_id), count(*)::int FROM {schema}.chunk GROUP BY document_id ORDER BY document_id;
