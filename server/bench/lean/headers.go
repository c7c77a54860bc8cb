package lean

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// headerCache holds each method's block of request headers. Encoding a method
// for the first time changes the table that all later blocks refer to; once it
// has all methods, its blocks stay the same. A block belongs to its place in the
// order of frames, so whoever uses this holds Conn.mu.
type headerCache struct {
	encoder *hpack.Encoder
	buffer  bytes.Buffer
	common  []hpack.HeaderField
	seen    map[string]bool
	blocks  map[string][]byte
}

func (h *headerCache) init(authority string, secure bool) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	h.encoder = hpack.NewEncoder(&h.buffer)
	h.common = []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme}, {Name: ":authority", Value: authority},
		{Name: "te", Value: "trailers"}, {Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "metastore-bench"},
	}
	h.forget()
}

func (h *headerCache) forget() { h.seen, h.blocks = map[string]bool{}, map[string][]byte{} }

// resize obeys the server's limit on the table.
func (h *headerCache) resize(limit uint32) {
	h.encoder.SetMaxDynamicTableSizeLimit(limit)
	h.forget()
}

// block returns the headers of a request to method; valid until the next call.
func (h *headerCache) block(method string) []byte {
	if b := h.blocks[method]; b != nil {
		return b
	}
	h.buffer.Reset()
	for i, f := range h.common {
		if i == 1 { // pseudo headers come first
			_ = h.encoder.WriteField(hpack.HeaderField{Name: ":path", Value: method}) // a buffer takes all
		}
		_ = h.encoder.WriteField(f)
	}
	b := h.buffer.Bytes()
	switch {
	case h.encoder.MaxDynamicTableSize() < initialTableSize:
		// Entries may push each other out: no block is the last.
	case h.seen[method]:
		h.blocks[method] = bytes.Clone(b)
	default:
		h.seen[method] = true
		clear(h.blocks)
	}
	return b
}
