package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
)

const (
	// format is the version of the manifest and of what it stands for.
	format           = 1
	manifestFile     = "manifest.json"
	snapshotFile     = "snapshot.db"
	maxManifestBytes = 64 << 10
)

// What Manifest.Compression, Encryption and Verified may be.
const (
	CompressionZstd     = "zstd"
	CompressionNone     = "none"
	EncryptionAge       = "age"
	VerifiedChecksum    = "checksum"
	VerifiedRestoreTest = "restore-test"
)

// Manifest says what a backup holds. IDs and sums are hexadecimal.
type Manifest struct {
	Format    int       `json:"format"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
	ClusterID string    `json:"clusterID"`
	MemberID  string    `json:"memberID"`
	// Version is MetaStore's, empty for etcd; EtcdVersion that of the API.
	Version     string `json:"version"`
	EtcdVersion string `json:"etcdVersion"`
	Revision    int64  `json:"revision"`
	// CompactRevision is 0 where there was no compaction.
	CompactRevision int64  `json:"compactRevision"`
	RaftIndex       uint64 `json:"raftIndex"`
	RaftTerm        uint64 `json:"raftTerm"`
	// Keys counts the keys at Revision, and Hash is their HashKV. Both are 0
	// when the member was compacted before it could be asked.
	Keys int64  `json:"keys"`
	Hash uint32 `json:"hash"`
	// SnapshotBytes is the size of the database with its SHA-256, StoredBytes
	// what compression and encryption made of it.
	SnapshotBytes  int64  `json:"snapshotBytes"`
	StoredBytes    int64  `json:"storedBytes"`
	SnapshotSHA256 string `json:"snapshotSHA256"`
	StoredSHA256   string `json:"storedSHA256"`
	// Compression is "zstd" or "none", Encryption "age" or empty.
	Compression string `json:"compression"`
	Encryption  string `json:"encryption"`
	// Verified is "checksum", "restore-test" or empty.
	Verified string `json:"verified"`
	// Sum is the SHA-256 of the manifest's bytes while it is empty.
	Sum string `json:"sum"`
}

// snapshot names the object with the database.
func (m *Manifest) snapshot() string {
	name := snapshotFile
	if m.Compression == CompressionZstd {
		name += ".zst"
	}
	if m.Encryption == EncryptionAge {
		name += ".age"
	}
	return path.Join(m.Name, name)
}

// encode sets Sum and gives the bytes of the file.
func (m *Manifest) encode() ([]byte, error) {
	m.Sum = ""
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	m.Sum = hex.EncodeToString(sum[:])
	b, err = json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// decodeManifest refuses every byte that encode would not have written.
func decodeManifest(b []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, failf(Corrupt, "%s is not readable: %w", manifestFile, err)
	}
	if m.Format > format {
		return nil, failf(NewerFormat, "the backup has format %d, this version knows up to %d; use a newer version", m.Format, format)
	}
	same := m
	if want, err := same.encode(); err != nil || !bytes.Equal(b, want) {
		return nil, failf(Corrupt, "%s does not match its own sum", manifestFile)
	}
	if m.Format != format || m.Compression != CompressionZstd && m.Compression != CompressionNone || m.Encryption != "" && m.Encryption != EncryptionAge {
		return nil, failf(Corrupt, "%s has format %d, compression %q and encryption %q, which no version writes", manifestFile, m.Format, m.Compression, m.Encryption)
	}
	return &m, nil
}

// readManifest reads a backup's manifest, and wants it to be of the given
// cluster where one is given.
func readManifest(ctx context.Context, s store, name, clusterID string) (*Manifest, error) {
	r, _, err := s.open(ctx, path.Join(name, manifestFile))
	if err != nil {
		if ReasonOf(err) == NotFound {
			return nil, failf(NotFound, "there is no backup %q in %s", name, s)
		}
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxManifestBytes))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifestFile, err)
	}
	m, err := decodeManifest(b)
	if err != nil {
		return nil, fmt.Errorf("backup %q: %w", name, err)
	}
	if m.Name != name {
		return nil, failf(Corrupt, "the manifest of backup %q names %q", name, m.Name)
	}
	return m, checkCluster(m.ClusterID, clusterID)
}

// checkCluster compares cluster IDs in hexadecimal; an empty want is any.
func checkCluster(got, want string) error {
	trim := func(id string) string { return strings.TrimLeft(strings.ToLower(id), "0") }
	if want == "" || trim(got) == trim(want) {
		return nil
	}
	return failf(WrongCluster, "it is of cluster %s, not of --cluster-id=%s", got, want)
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)*$`)
	idPattern   = regexp.MustCompile(`^[0-9a-fA-F]{1,16}$`)
)

const maxNameBytes = 512

func checkName(name string) error {
	if len(name) > maxNameBytes || !namePattern.MatchString(name) || path.Base(name) == manifestFile {
		return failf(InvalidArgument, "the name %q is not valid: parts of letters, digits, '.', '_' and '-' with '/' between them are allowed, %d bytes at most", name, maxNameBytes)
	}
	return nil
}

func checkClusterID(id string) error {
	if id != "" && !idPattern.MatchString(id) {
		return failf(InvalidArgument, "--cluster-id=%s is not valid: a cluster ID in hexadecimal is allowed", id)
	}
	return nil
}
