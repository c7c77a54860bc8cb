//go:build rocksdb

package install

// What the server is built with here.
const buildTags = "rocksdb,grocksdb_no_link,netgo,osusergo"

// engines are those that it then has.
var engines = []string{"memory", "rocksdb"}
