package etcdfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// ErrNewer is wrapped by errors about a file of a newer version of the format.
var ErrNewer = errors.New("it was written by a newer version")

// openTimeout is how long a database that a server has open is waited for.
const openTimeout = time.Second

// The newest version of the buckets that is known.
const maxStorageMajor, maxStorageMinor = 3, 7

// File is a database that was found whole. It is only read from. One goroutine
// uses it.
type File struct {
	path string
	db   *bbolt.DB
}

// HashCheck says what is asked of a file's SHA-256.
type HashCheck int

const (
	// HashRequired: the file has one, and it is right.
	HashRequired HashCheck = iota
	// HashIfPresent: as far as it has one, it is right.
	HashIfPresent
	// HashSkipped: none is looked for.
	HashSkipped
	// HashVerified: nothing is looked at, since the caller has read every byte
	// and compared them with a SHA-256 of its own.
	HashVerified
)

// Open opens a snapshot, or the database of a data dir, and checks it whole: by
// its SHA-256 or, where that is not looked at, as far as its structure goes. An error is one sentence that begins with the path.
func Open(path string, check HashCheck) (*File, error) {
	f := &File{path: path}
	if err := guard(func() error { return f.open(check) }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.db == nil {
		return nil
	}
	return f.db.Close()
}

// guard runs work on a mapped file, where damage may show as a fault or as a
// panic of bbolt.
func guard(work func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is damaged: %v", r)
		}
	}()
	return work()
}

func (f *File) open(check HashCheck) error {
	info, err := os.Stat(f.path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	if info.Size() == 0 {
		return errors.New("it is empty, not a bbolt file")
	}
	options := &bbolt.Options{ReadOnly: true, Timeout: openTimeout, NoStatistics: true}
	if f.db, err = bbolt.Open(f.path, 0, options); err != nil {
		return fmt.Errorf("it is not a bbolt file, as etcd's snapshots are, or cannot be opened: %w", err)
	}
	tx, err := f.db.Begin(false)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it only read
	if info.Size() < tx.Size() {
		return fmt.Errorf("it is truncated: it has %d bytes of %d", info.Size(), tx.Size())
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read from
	verified, err := checkSum(file, info.Size(), check)
	if err == nil && !verified {
		err = checkPages(file, tx)
	}
	if err != nil {
		return err
	}
	return checkContent(tx)
}

// checkSum compares the file with the SHA-256 at its end. verified is true when
// there is one that fits.
func checkSum(file io.Reader, size int64, check HashCheck) (verified bool, err error) {
	if check == HashSkipped || check == HashVerified {
		return check == HashVerified, nil
	}
	if size%sectorBytes != sumBytes {
		if check == HashIfPresent {
			return false, nil
		}
		return false, errors.New("it does not end with a sha256, as a snapshot does; --skip-hash-check is for files copied from a data dir")
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, file, size-sumBytes); err != nil {
		return false, err
	}
	var want [sumBytes]byte
	if _, err := io.ReadFull(file, want[:]); err != nil {
		return false, err
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want[:]) {
		return false, fmt.Errorf("it is damaged: its sha256 is %x, at its end stands %x", got, want)
	}
	return true, nil
}

// checkContent wants a database of an etcd that this version knows.
func checkContent(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketKey, bucketMeta} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it is a bbolt file, but none of etcd: it has no bucket %q", name)
		}
	}
	v := tx.Bucket(bucketMeta).Get(metaStorageVersion)
	if v == nil {
		return nil // before v3.6
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(v), "%d.%d.", &major, &minor); err != nil {
		return fmt.Errorf("its storage version %q is not readable", v)
	}
	if major > maxStorageMajor || major == maxStorageMajor && minor > maxStorageMinor {
		return fmt.Errorf("its storage version is %s, this version knows up to %d.%d: %w", v, maxStorageMajor, maxStorageMinor, ErrNewer)
	}
	return nil
}
