"""LlamaIndex's own ingestion pipeline over a folder, timed: the peer that `ingest.py` runs beside us.

It runs in an environment of its own (`locks/llamaindex.in`) and uses the same embedder and the same Postgres. The
sentence splitter gets the chunk size that fits the embedder; embedding requests are as large and as many at once as
ours. Prints one JSON object.

    python llamaindex_ingest.py FOLDER EMBEDDER_URL MODEL DATABASE SOCKET_DIR
"""

import asyncio
import json
import re
import sys
import time

from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.vector_stores.postgres import PGVectorStore


def words(text: str) -> list[str]:
    """Words and marks, about what the embedder makes of a text; the default tokenizer wants the network."""
    return re.findall(r"\w+|[^\w\s]", text)


async def run(folder: str, url: str, model: str, database: str, sockets: str) -> dict[str, float]:
    store = PGVectorStore.from_params(
        connection_string=f"postgresql+psycopg2://redoubt_admin@/{database}?host={sockets}",
        async_connection_string=f"postgresql+asyncpg://redoubt_admin@/{database}?host={sockets}",
        table_name="peer",
        embed_dim=384,
        hnsw_kwargs={
            "hnsw_m": 16,
            "hnsw_ef_construction": 64,
            "hnsw_ef_search": 100,
            "hnsw_dist_method": "vector_cosine_ops",
        },
        hybrid_search=True,
        text_search_config="english",
    )
    embed = OpenAIEmbedding(
        model_name=model, api_base=url + "/v1", api_key="none", embed_batch_size=32, num_workers=4, max_retries=3
    )
    started = time.perf_counter()
    documents = SimpleDirectoryReader(folder, recursive=True).load_data()
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=160, chunk_overlap=0, tokenizer=words), embed], vector_store=store
    )
    nodes = await pipeline.arun(documents=documents)
    return {"seconds": time.perf_counter() - started, "documents": len(documents), "chunks": len(nodes)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:6]))))
