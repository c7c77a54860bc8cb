//go:build rocksdb

// The calls of RocksDB's C++ interface that its C interface of 7.8 lacks, or
// has only in a form that costs several calls or copies a row. See shim.go.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "rocksdb/c.h"

#ifdef __cplusplus
extern "C" {
#endif

// Errors are returned in *err: nil, or text that the caller frees.

// ms_bound_allocator keeps glibc's allocator near what is in use, for the whole
// process. Calls come from whichever thread a goroutine is on, and each of many
// arenas would keep what large batches left in it; large buffers are mapped and
// go back when freed, whereas glibc would raise the size that counts as large.
// Other allocators have no such call.
void ms_bound_allocator(void);

// ms_log_to has RocksDB hand its warnings to msLog instead of writing a file:
// its own logger aborts the process when the volume is full. logger is a Go
// handle, which msLogDone gives back when the database is gone.
void ms_log_to(rocksdb_options_t* options, uintptr_t logger);

// ms_write applies a write batch, given in RocksDB's own representation,
// without the write-ahead log.
void ms_write(rocksdb_t* db, const char* rep, size_t len, char** err);

// ms_flush flushes column families as one atomic step and waits for it.
void ms_flush(rocksdb_t* db, rocksdb_column_family_handle_t** cfs, size_t n, char** err);

// ms_compact rewrites a whole column family.
void ms_compact(rocksdb_t* db, rocksdb_column_family_handle_t* cf, char** err);

// ms_verify compares all blocks of all table files with their checksums.
void ms_verify(rocksdb_t* db, char** err);

// ms_snapshot and ms_release open and close a snapshot. Reads take NULL for
// the newest state.
const void* ms_snapshot(rocksdb_t* db);
void ms_release(rocksdb_t* db, const void* snapshot);

// ms_get looks up n keys, which lie one behind the other in keys. It fills
// value_lens, with -1 for a missing key, and returns the values, for ms_take.
void* ms_get(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
             const char* keys, const uint32_t* key_lens, size_t n, int64_t* value_lens, char** err);

// ms_take copies the values one behind the other to dst and frees them.
void ms_take(void* values, char* dst);

// ms_walk looks up ascending keys by one iterator, which costs a fraction of a
// lookup each where they follow each other. It copies the values one behind the
// other to buf, fills value_lens as ms_get does and returns how many keys it did:
// fewer where the next value does not fit buf, with *need its length, and where
// the keys do not ascend or lie so far apart that the rest is better looked up.
size_t ms_walk(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
               const char* keys, const uint32_t* key_lens, size_t n, char* buf, size_t cap,
               int64_t* value_lens, size_t* need, char** err);

// ms_scan_open begins a scan at from, up to to unless that is NULL.
void* ms_scan_open(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
                   const char* from, size_t from_len, const char* to, size_t to_len);

// ms_scan_next copies up to max_rows whole rows to buf: key length, value
// length (each uint32), key, value. It returns their number; *need is how many
// bytes the next row takes, 0 at the end.
size_t ms_scan_next(void* scan, char* buf, size_t cap, size_t max_rows, size_t* need, char** err);

void ms_scan_close(void* scan);

// ms_load_open begins to write table files for a column family that is empty.
void* ms_load_open(rocksdb_t* db, rocksdb_column_family_handle_t* cf);

// ms_load_rows writes rows, in the form of ms_scan_next, to the files.
void ms_load_rows(void* load, const char* rows, size_t len, char** err);

// ms_load_add finishes the files and adds them to the column family as one step.
void ms_load_add(void* load, char** err);

// ms_load_close ends a load, and removes the files that were not added.
void ms_load_close(void* load);

#ifdef __cplusplus
}
#endif
