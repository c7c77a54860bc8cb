// Package etcdfile owns the file format of etcd's backend, a bbolt database, as
// the Snapshot call of etcd v3.7 sends it and etcdutl restores it. It promises
// that nobody is locked in: Write makes such a file from a frozen view of the
// state, and Open and CopyTo fill an engine from a file of a real etcd v3.5 to
// v3.7 or of Write. Neither holds more than a batch of rows in memory.
//
// rpc writes, node reads, cmd/metastore shows the status. Nothing here starts a
// goroutine. The buckets:
//
//	key              main 8 | '_' | sub 8 | 't' for a tombstone    mvccpb.KeyValue
//	meta             consistent_index, term                        8 bytes
//	                 confState                                     raftpb.ConfState in JSON
//	                 scheduledCompactRev, finishedCompactRev       main 8 | '_' | sub 8
//	                 storageVersion                                "3.7.0", or "3.6.0" in a downgrade
//	lease            ID 8                                          leasepb.Lease
//	alarm            etcdserverpb.AlarmMember                      nothing
//	cluster          clusterVersion                                "3.7.0"
//	                 downgrade                                     target and that it is allowed, in JSON
//	members          ID in hexadecimal                             member in JSON
//	members_removed  ID in hexadecimal                             "removed"
//	auth             authEnabled                                   1 byte: 0 or 1
//	                 authRevision                                  8 bytes
//	authUsers        name                                          authpb.User
//	authRoles        name                                          authpb.Role
//
// Integers are big endian. Rows of the bucket key are those of engine.Revisions
// without the group. A snapshot is the database, whose size is a multiple of
// 512, and the 32 bytes of its SHA-256.
package etcdfile

import "crypto/sha256"

// StorageVersion is the version of the buckets that Write makes.
const StorageVersion = "3.7.0"

var (
	bucketKey            = []byte("key")
	bucketMeta           = []byte("meta")
	bucketLease          = []byte("lease")
	bucketAlarm          = []byte("alarm")
	bucketCluster        = []byte("cluster")
	bucketMembers        = []byte("members")
	bucketMembersRemoved = []byte("members_removed")
	bucketAuth           = []byte("auth")
	bucketAuthUsers      = []byte("authUsers")
	bucketAuthRoles      = []byte("authRoles")

	buckets = [][]byte{
		bucketKey, bucketMeta, bucketLease, bucketAlarm, bucketCluster, bucketMembers, bucketMembersRemoved,
		bucketAuth, bucketAuthUsers, bucketAuthRoles,
	}

	metaIndex          = []byte("consistent_index")
	metaTerm           = []byte("term")
	metaConfState      = []byte("confState")
	metaScheduled      = []byte("scheduledCompactRev")
	metaFinished       = []byte("finishedCompactRev")
	metaStorageVersion = []byte("storageVersion")
	clusterVersion     = []byte("clusterVersion")
	clusterDowngrade   = []byte("downgrade")
	authEnabled        = []byte("authEnabled")
	authRevision       = []byte("authRevision")
)

const (
	// sumBytes is the length of the SHA-256 at the end of a snapshot. A file has
	// one when its size is that many bytes beyond a multiple of sectorBytes.
	sumBytes    = sha256.Size
	sectorBytes = 512

	// batchBytes bounds the rows that one transaction or batch holds.
	batchBytes = 4 << 20
	// rowOverheadBytes is about what a row costs beside its bytes meanwhile.
	rowOverheadBytes = 96

	// revisionBytes is the length of a revision: main 8, '_', sub 8.
	revisionBytes = 8 + 1 + 8
)
