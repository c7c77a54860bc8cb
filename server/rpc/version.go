package rpc

import "metastore.io/metastore/server/etcdfile"

// The versions this build reports. Clients and tools read etcd's.
const (
	// EtcdVersion is the release of etcd whose API is served.
	EtcdVersion = "3.7.3"
	// StorageVersion is what etcd of that release reports for its data.
	StorageVersion = etcdfile.StorageVersion
	// Version is MetaStore's own.
	Version = "0.1.0"
)
