//! What outlives the server: records in LMDB, one writer, durable before it is answered.
