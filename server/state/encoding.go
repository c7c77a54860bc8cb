package state

import (
	"encoding/binary"
	"fmt"
)

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendString(b []byte, v string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendStrings(b []byte, vs []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = appendString(b, v)
	}
	return b
}

// decoder reads fields one after the other. After the first failure all reads
// give zero values; end reports it.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
		d.b = nil
	}
}

// version reads the format version and refuses any other than want.
func (d *decoder) version(want byte) {
	if got := d.byte(); d.err == nil && got != want {
		d.fail("format version %d, only %d is known", got, want)
	}
}

// take returns the next n bytes, aliasing the input.
func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if len(d.b) < n {
		d.fail("%d bytes are left where %d are needed", len(d.b), n)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// uvarint reads a minimal uvarint.
func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.fail("invalid uvarint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of items that take at least itemBytes each, and so
// bounds what a caller allocates by the size of the input.
func (d *decoder) count(itemBytes int) int {
	v := d.uvarint()
	if v > uint64(len(d.b)/itemBytes) {
		d.fail("%d items of %d bytes in %d bytes", v, itemBytes, len(d.b))
		return 0
	}
	return int(v)
}

// bytes reads a length and that many bytes, aliasing the input.
func (d *decoder) bytes() []byte { return d.take(d.count(1)) }

func (d *decoder) strings() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	vs := make([]string, n)
	for i := range vs {
		vs[i] = string(d.bytes())
	}
	return vs
}

// end reports the first failure, or bytes that nobody read.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	return d.err
}
