package rpc

import "metastore.io/metastore/server/etcdfile"

// The versions this build reports. Clients and tools read etcd's.
const (
	// EtcdVersion is the release of etcd whose API is served.
	EtcdVersion = "3.7.3"
	// Version is MetaStore's own.
	Version = "0.1.0"
)

// storageVersion is what etcd reports for its data in a cluster of this one's
// version.
func (s *Server) storageVersion() string {
	return etcdfile.StorageVersionOf(s.b.Machine().ClusterVersion())
}
