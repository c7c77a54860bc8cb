//go:build !rocksdb

package install

// What the server is built with here.
const buildTags = "netgo,osusergo"

// engines are those that it then has.
var engines = []string{"memory"}
