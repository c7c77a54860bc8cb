package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// minValueSize is what a watcher needs to find out how old an event is.
const minValueSize = 8

// offsets is how many different values there are.
const offsets = 4096

// data makes keys and values. It never changes, so all may use it at once.
type data struct {
	prefix, zeros []byte
	valueSize     int
	block         []byte // values are slices of it
}

func newData(c *Config) *data {
	d := &data{prefix: []byte(c.Prefix), valueSize: c.ValueSize}
	d.zeros = bytes.Repeat([]byte("0"), c.KeySize-len(c.Prefix))
	d.block = make([]byte, c.ValueSize+offsets)
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	for i := range d.block {
		d.block[i] = byte(rng.Uint32())
	}
	return d
}

func digits(n int) int { return len(strconv.Itoa(n)) }

// key appends key i to b: the prefix, then i with zeros before it, so that keys
// are in the order of their numbers.
func (d *data) key(b []byte, i int) []byte {
	b = append(append(b, d.prefix...), d.zeros...)
	for at := len(b) - 1; i > 0; at-- {
		b[at] = byte('0' + i%10)
		i /= 10
	}
	return b
}

// number is the i of a key.
func (d *data) number(key []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(key, d.prefix)
	i, err := strconv.Atoi(string(rest))
	return i, ok && err == nil && i >= 0
}

// value is that of key i when it was written for the nth time; it must not be
// changed.
func (d *data) value(i, n int) []byte {
	at := (uint64(i)*0x9E3779B97F4A7C15 + uint64(n)*0xBF58476D1CE4E5B9) >> 52
	return d.block[at : at+uint64(d.valueSize)]
}

// end is the first key beyond the prefix.
func (d *data) end() []byte { return prefixEnd(d.prefix) }

func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0} // all keys
}

// sameBytes is nil when a reply has what it should.
func sameBytes(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return wrongReply("%s is not what was written", what)
}

// wrongError is a reply that the server should not have given.
type wrongError struct{ text string }

func (e *wrongError) Error() string { return "wrong reply: " + e.text }

// wrongReply's text should be the same for errors of the same kind, which are
// counted.
func wrongReply(format string, args ...any) error {
	return &wrongError{fmt.Sprintf(format, args...)}
}
