// Package rpc serves etcd's v3 API over a Backend: the gRPC services, the
// health, version and metrics endpoints over HTTP.
//
// It owns what a request looks like: validation, limits, quotas, response
// headers, and the translation of errors, which happens once, in errors.go,
// with etcd's exact texts, since clients tell errors by text. It promises that
// a bad request is refused before it is proposed, and that what is not there
// answers Unimplemented with the method's name. It holds no state of the store
// and no lock across a request.
//
// node creates a Server and mounts it; nobody else calls it.
package rpc
