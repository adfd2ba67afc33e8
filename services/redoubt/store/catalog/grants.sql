-- Each service's rights. The ingest worker makes and drops generations' schemas, so it may create in the database.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM redoubt_gateway, redoubt_ingest, redoubt_exporter;
GRANT USAGE ON SCHEMA public TO redoubt_gateway, redoubt_ingest, redoubt_exporter;

GRANT SELECT ON index, index_tuning, generation, acl, source, document, document_version, api_key, pending, indexed
    TO redoubt_gateway;
GRANT INSERT ON audit TO redoubt_gateway;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO redoubt_ingest;
REVOKE ALL ON api_key, audit, migration FROM redoubt_ingest;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO redoubt_ingest;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO redoubt_ingest', current_database()); END $$;

GRANT SELECT ON index, index_tuning, generation, source, document, pending, indexed, release, acl
    TO redoubt_exporter;
