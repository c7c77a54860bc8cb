//go:build rocksdb

package rocksdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"metastore.io/metastore/server/engine"
)

// A manifest is RocksDB's list of its table files, in the format of its logs
// (doc/log_format.txt there): blocks of 32 KiB of records
//
//	masked CRC32C of type and payload 4 | length 2 | type 1 | payload    little endian
//
// that do not cross blocks; fewer than 7 bytes at a block's end are not used.
// A record that reaches beyond the end of the file is a torn tail to RocksDB:
// it drops the record and everything behind it without a word and goes on with
// the files that are left. One damaged length would so make rows vanish.
const (
	manifestBlockBytes  = 32 << 10
	manifestHeaderBytes = 7
	// maxManifestBytes is beyond what RocksDB lets a manifest grow to.
	maxManifestBytes = 2 << 30
	// manifestTypes are the types of records: whole, first, middle, last.
	manifestTypes = 4
)

var (
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	manifestName = regexp.MustCompile(`^MANIFEST-[0-9]{6,20}\n$`)
)

// checkManifest verifies what CURRENT in a folder names, as far as RocksDB would
// not complain by itself. A folder without CURRENT is fine.
func checkManifest(dir string) error {
	current := filepath.Join(dir, "CURRENT")
	text, err := os.ReadFile(current)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !manifestName.Match(text) {
		return fmt.Errorf("%w: %s: offset 0: %q is not the name of a manifest", engine.ErrCorrupt, current, text)
	}
	name := filepath.Join(dir, string(text[:len(text)-1]))
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s names %s, which is not there", engine.ErrCorrupt, current, name)
	case err != nil:
		return err
	case info.Size() > maxManifestBytes:
		return fmt.Errorf("%w: %s has %d bytes", engine.ErrCorrupt, name, info.Size())
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if at := damagedRecord(content); at >= 0 {
		return fmt.Errorf("%w: %s: offset %d: the record does not verify", engine.ErrCorrupt, name, at)
	}
	return nil
}

// damagedRecord is the offset of the first record that does not verify and is no
// torn tail; negative when there is none.
func damagedRecord(b []byte) int {
	at := 0
	for at < len(b) {
		block := blockRest(b, at)
		if len(block) < manifestHeaderBytes {
			at += len(block)
			continue
		}
		n, ok := recordLength(block)
		if !ok {
			return at
		}
		if n > len(block) {
			break
		}
		at += n
	}
	if at == len(b) || !tailIsDamaged(b[at:], blockRest(b, at)) {
		return -1
	}
	return at
}

// blockRest is the part of at's block from at on.
func blockRest(b []byte, at int) []byte {
	return b[at:min(len(b), at-at%manifestBlockBytes+manifestBlockBytes)]
}

// recordLength is the length of the record at the start of a block's rest; ok is
// false when it is all there and does not verify.
func recordLength(block []byte) (n int, ok bool) {
	n = manifestHeaderBytes + int(binary.LittleEndian.Uint16(block[4:]))
	return n, n > len(block) || verifies(block, n)
}

// verifies tells whether a record of n bytes begins the block's rest.
func verifies(block []byte, n int) bool {
	if n > len(block) || block[6] == 0 || block[6] > manifestTypes {
		return false
	}
	sum := crc32.Checksum(block[6:n], castagnoli)
	return binary.LittleEndian.Uint32(block) == (sum>>15|sum<<17)+0xa282ead8
}

// tailIsDamaged tells whether a record that reaches beyond its block is damage:
// it does so because of one bit of its length, or something follows that
// verifies or is in the next block.
func tailIsDamaged(rest, block []byte) bool {
	if len(rest) > len(block) {
		return true
	}
	length := binary.LittleEndian.Uint16(block[4:])
	for bit := range 16 {
		if verifies(block, manifestHeaderBytes+int(length^1<<bit)) {
			return true
		}
	}
	for i := 1; i+manifestHeaderBytes <= len(block); i++ {
		if n, _ := recordLength(block[i:]); n <= len(block)-i && verifies(block[i:], n) {
			return true
		}
	}
	return false
}
