// Package lean is a gRPC client that costs little, for a loader that is not to
// be what it measures.
//
// One goroutine reads a connection and one writes it. What all callers send
// while a write is under way leaves with the next one, and what the replies of
// one read give rise to leaves in one write. A unary call allocates nothing but
// its reply. Headers are encoded once a method.
//
// It speaks HTTP/2 over TCP or TLS as a grpc server expects it: flow control
// both ways, SETTINGS, PING, GOAWAY and RST_STREAM are kept. It does not
// connect again, compress, nor retry: a load generator wants to see what
// breaks. Deadlines are the caller's: it closes the connection.
package lean
