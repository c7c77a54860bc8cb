//go:build rocksdb

#include "shim.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/options.h"
#include "rocksdb/sst_file_writer.h"
#include "rocksdb/write_batch.h"

using rocksdb::ColumnFamilyHandle;
using rocksdb::DB;
using rocksdb::PinnableSlice;
using rocksdb::ReadOptions;
using rocksdb::Slice;
using rocksdb::Snapshot;
using rocksdb::Status;

// The C interface's handles are structs of one pointer (db/c.cc); a test opens
// a database and uses both, so that a change of this would show at once.
struct rocksdb_t {
  DB* rep;
};
struct rocksdb_column_family_handle_t {
  ColumnFamilyHandle* rep;
};
struct rocksdb_options_t {
  rocksdb::Options rep;
};

// In log.go.
extern "C" void msLog(uintptr_t logger, int error, char* text, size_t len);
extern "C" void msLogDone(uintptr_t logger);

namespace {

void SetError(const Status& s, char** err) {
  if (!s.ok()) *err = strdup(s.ToString().c_str());
}

// Range tombstones are never written, and iterators that look for them drop the
// error of a damaged table file.
ReadOptions At(const void* snapshot) {
  ReadOptions o;
  o.ignore_range_deletions = true;
  o.snapshot = static_cast<const Snapshot*>(snapshot);
  o.verify_checksums = true;
  return o;
}

struct Values {
  std::vector<PinnableSlice> rows;
};

struct Scan {
  std::string to;
  Slice bound;
  std::unique_ptr<rocksdb::Iterator> it;
};

// A load begins another file after so many bytes, as a compaction would.
constexpr uint64_t kLoadFileBytes = 64 << 20;

struct Load {
  Load(DB* d, ColumnFamilyHandle* c) : db(d), cf(c), options(d->GetOptions(c)) {}
  ~Load() {
    writer.reset();
    for (const std::string& name : files) db->GetEnv()->DeleteFile(name);  // those that were added moved away
  }

  Status Add(const Slice& key, const Slice& value) {
    if (!writer) {
      files.push_back(db->GetName() + "/load-" + std::to_string(files.size()));
      writer.reset(new rocksdb::SstFileWriter(rocksdb::EnvOptions(options), options, cf, /*invalidate_page_cache=*/false));
      Status s = writer->Open(files.back());
      if (!s.ok()) return s;
      bytes = 0;
    }
    bytes += key.size() + value.size();
    Status s = writer->Put(key, value);
    return s.ok() && bytes >= kLoadFileBytes ? Finish() : s;
  }

  Status Finish() {
    if (!writer) return Status::OK();
    Status s = writer->Finish();
    writer.reset();
    return s;
  }

  DB* const db;
  ColumnFamilyHandle* const cf;
  const rocksdb::Options options;
  std::vector<std::string> files;
  std::unique_ptr<rocksdb::SstFileWriter> writer;
  uint64_t bytes = 0;
};

class GoLogger : public rocksdb::Logger {
 public:
  explicit GoLogger(uintptr_t logger) : Logger(rocksdb::WARN_LEVEL), logger_(logger) {}
  ~GoLogger() override { msLogDone(logger_); }
  rocksdb::Status Close() override { return Status::OK(); }
  void LogHeader(const char*, va_list) override {}  // the settings, at each opening
  using Logger::Logv;
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list ap) override {
    if (level < rocksdb::WARN_LEVEL || level > rocksdb::FATAL_LEVEL) return;
    char text[1024];
    const int n = vsnprintf(text, sizeof(text), format, ap);
    if (n < 0) return;
    msLog(logger_, level > rocksdb::WARN_LEVEL, text, std::min<size_t>(n, sizeof(text) - 1));
  }

 private:
  const uintptr_t logger_;
};

char* Append(char* dst, const Slice& s) {
  memcpy(dst, s.data(), s.size());
  return dst + s.size();
}

}  // namespace

void ms_bound_allocator(void) {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
#endif
}

void ms_log_to(rocksdb_options_t* options, uintptr_t logger) {
  options->rep.info_log = std::make_shared<GoLogger>(logger);
}

void ms_write(rocksdb_t* db, const char* rep, size_t len, char** err) {
  rocksdb::WriteOptions o;
  o.disableWAL = true;
  rocksdb::WriteBatch batch(std::string(rep, len));
  SetError(db->rep->Write(o, &batch), err);
}

void ms_flush(rocksdb_t* db, rocksdb_column_family_handle_t** cfs, size_t n, char** err) {
  std::vector<ColumnFamilyHandle*> handles;
  for (size_t i = 0; i < n; i++) handles.push_back(cfs[i]->rep);
  rocksdb::FlushOptions o;
  o.wait = true;
  // A flush may run while writes go on; where the memtables are full it waits
  // for the flush under way instead of making writes stall.
  o.allow_write_stall = false;
  SetError(db->rep->Flush(o, handles), err);
}

void ms_compact(rocksdb_t* db, rocksdb_column_family_handle_t* cf, char** err) {
  rocksdb::CompactRangeOptions o;
  o.exclusive_manual_compaction = false;
  o.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  SetError(db->rep->CompactRange(o, cf->rep, nullptr, nullptr), err);
}

void ms_verify(rocksdb_t* db, char** err) {
  ReadOptions o;
  o.fill_cache = false;
  SetError(db->rep->VerifyChecksum(o), err);
}

const void* ms_snapshot(rocksdb_t* db) { return db->rep->GetSnapshot(); }

void ms_release(rocksdb_t* db, const void* snapshot) {
  db->rep->ReleaseSnapshot(static_cast<const Snapshot*>(snapshot));
}

void* ms_get(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
             const char* keys, const uint32_t* key_lens, size_t n, int64_t* value_lens, char** err) {
  std::vector<Slice> slices(n);
  for (size_t i = 0; i < n; i++) {
    slices[i] = Slice(keys, key_lens[i]);
    keys += key_lens[i];
  }
  std::unique_ptr<Values> values(new Values);
  values->rows.resize(n);
  std::vector<Status> statuses(n);
  if (n == 1) {
    statuses[0] = db->rep->Get(At(snapshot), cf->rep, slices[0], &values->rows[0]);
  } else {
    db->rep->MultiGet(At(snapshot), cf->rep, n, slices.data(), values->rows.data(), statuses.data(),
                      /*sorted_input=*/false);
  }
  for (size_t i = 0; i < n; i++) {
    if (statuses[i].ok()) {
      value_lens[i] = static_cast<int64_t>(values->rows[i].size());
    } else if (statuses[i].IsNotFound()) {
      value_lens[i] = -1;
    } else {
      SetError(statuses[i], err);
      return nullptr;
    }
  }
  return values.release();
}

// A walk steps over at most kSteps rows that nobody asked for before it seeks,
// and ends when seeks outnumber the keys found without by kSeeks.
constexpr int kSteps = 3, kSeeks = 8;

size_t ms_walk(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
               const char* keys, const uint32_t* key_lens, size_t n, char* buf, size_t cap,
               int64_t* value_lens, size_t* need, char** err) {
  std::unique_ptr<rocksdb::Iterator> it(db->rep->NewIterator(At(snapshot), cf->rep));
  *need = 0;
  Slice last;
  int seeks = 0;
  for (size_t i = 0; i < n; i++) {
    const Slice key(keys, key_lens[i]);
    keys += key.size();
    if (i == 0) {
      it->Seek(key);
    } else if (last.compare(key) > 0 || seeks >= 2 * kSeeks) {
      return i;
    }
    for (int step = 0; it->Valid() && it->key().compare(key) < 0; step++) {
      if (step == kSteps) {
        it->Seek(key);
        seeks += 2;
        break;
      }
      it->Next();
    }
    if (!it->Valid() && !it->status().ok()) {
      SetError(it->status(), err);
      return i;
    }
    last = key;
    seeks = std::max(seeks - 1, 0);
    value_lens[i] = -1;
    if (!it->Valid() || it->key() != key) continue;
    const Slice value = it->value();
    if (value.size() > cap) {
      *need = value.size();
      return i;
    }
    value_lens[i] = static_cast<int64_t>(value.size());
    buf = Append(buf, value);
    cap -= value.size();
  }
  return n;
}

void ms_take(void* values, char* dst) {
  std::unique_ptr<Values> v(static_cast<Values*>(values));
  for (const PinnableSlice& row : v->rows) dst = Append(dst, row);
}

void* ms_scan_open(rocksdb_t* db, rocksdb_column_family_handle_t* cf, const void* snapshot,
                   const char* from, size_t from_len, const char* to, size_t to_len) {
  Scan* scan = new Scan;
  ReadOptions o = At(snapshot);
  o.fill_cache = false;  // a start's scan of all rows would leave nothing else there
  if (to != nullptr) {
    scan->to.assign(to, to_len);
    scan->bound = scan->to;
    o.iterate_upper_bound = &scan->bound;
  }
  scan->it.reset(db->rep->NewIterator(o, cf->rep));
  scan->it->Seek(Slice(from, from_len));
  return scan;
}

size_t ms_scan_next(void* s, char* buf, size_t cap, size_t max_rows, size_t* need, char** err) {
  rocksdb::Iterator* it = static_cast<Scan*>(s)->it.get();
  size_t rows = 0;
  *need = 0;
  for (; it->Valid(); it->Next(), rows++) {
    const Slice key = it->key(), value = it->value();
    const uint32_t lens[2] = {static_cast<uint32_t>(key.size()), static_cast<uint32_t>(value.size())};
    const size_t size = sizeof(lens) + key.size() + value.size();
    if (rows == max_rows || size > cap) {
      *need = size;
      return rows;
    }
    memcpy(buf, lens, sizeof(lens));
    buf = Append(Append(buf + sizeof(lens), key), value);
    cap -= size;
  }
  SetError(it->status(), err);
  return rows;
}

void ms_scan_close(void* s) { delete static_cast<Scan*>(s); }

void* ms_load_open(rocksdb_t* db, rocksdb_column_family_handle_t* cf) { return new Load(db->rep, cf->rep); }

void ms_load_rows(void* l, const char* rows, size_t len, char** err) {
  Load* load = static_cast<Load*>(l);
  for (const char* end = rows + len; rows < end;) {
    uint32_t lens[2];
    memcpy(lens, rows, sizeof(lens));
    const Slice key(rows + sizeof(lens), lens[0]), value(key.data() + key.size(), lens[1]);
    const Status s = load->Add(key, value);
    if (!s.ok()) return SetError(s, err);
    rows = value.data() + value.size();
  }
}

void ms_load_add(void* l, char** err) {
  Load* load = static_cast<Load*>(l);
  Status s = load->Finish();
  rocksdb::IngestExternalFileOptions o;
  o.move_files = true;
  o.write_global_seqno = false;  // there is none in an empty column family, and files stay as they were written
  if (s.ok() && !load->files.empty()) s = load->db->IngestExternalFile(load->cf, load->files, o);
  SetError(s, err);
}

void ms_load_close(void* l) { delete static_cast<Load*>(l); }
