// Package backup takes backups of a running cluster to a folder or to
// S3-compatible storage, proves that they can be restored, and makes data dirs
// from them. It promises that a backup is visible only when it is whole, that
// one whose bytes changed is refused before anything is touched, and that a
// restore that was cut off anywhere leaves the old data dir or the new one.
// cmd/metastore calls it.
//
// A backup NAME consists of two objects below its destination:
//
//	NAME/snapshot.db[.zst][.age]   the file of etcdfile, compressed, then encrypted
//	NAME/manifest.json             a Manifest, written last: without it there is no backup
//
// Memory is bounded: bytes stream through fixed buffers, and where the database
// has to be read in its own order it lies in a file in a scratch folder.
package backup
