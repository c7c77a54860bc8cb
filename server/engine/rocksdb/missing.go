//go:build !rocksdb

package rocksdb

import (
	"errors"

	"metastore.io/metastore/server/engine"
)

// Built tells whether this program holds RocksDB.
const Built = false

// Open fails: RocksDB is not in this program.
func (o Opener) Open(string) (engine.Engine, error) {
	if _, err := o.withDefaults(); err != nil {
		return nil, err
	}
	return nil, errors.New("this program was built without RocksDB: use the memory engine, " +
		"or build with RocksDB's development files, CGO_ENABLED=1 and -tags rocksdb")
}

// Open fails: RocksDB is not in this program.
func (i Inspector) Open(dir string) (engine.Engine, error) { return i.Opener.Open(dir) }
