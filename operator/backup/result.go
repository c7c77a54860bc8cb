package backup

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
)

// The reasons of a failed command that decisions depend on.
const (
	ReasonAlreadyExists = "AlreadyExists"
	ReasonNotFound      = "NotFound"
	reasonInvalid       = "InvalidArgument"
)

// permanent are reasons that no second try mends.
var permanent = []string{reasonInvalid, "DestinationReadOnly", "WrongCluster", "NewerFormat", "WrongKey"}

// maxMessage bounds what is repeated of a Job's message.
const maxMessage = 1024

// Result is what a command of a Job left as its termination message.
type Result struct {
	OK              bool
	Reason, Message string
	Manifest        *v1alpha1.BackupManifest
	CreatedAt       time.Time
	// Revision is what a restore begins with; 0 of other commands.
	Revision int64
}

func (r *Result) permanent() bool { return r != nil && slices.Contains(permanent, r.Reason) }

// wireResult is the JSON of a result; uint64 are numbers there.
type wireResult struct {
	OK       bool          `json:"ok"`
	Reason   string        `json:"reason"`
	Message  string        `json:"message"`
	Manifest *wireManifest `json:"manifest"`
	Revision int64         `json:"revision"`
}

type wireManifest struct {
	Format          int32     `json:"format"`
	CreatedAt       time.Time `json:"createdAt"`
	ClusterID       string    `json:"clusterID"`
	MemberID        string    `json:"memberID"`
	Version         string    `json:"version"`
	Revision        int64     `json:"revision"`
	CompactRevision int64     `json:"compactRevision"`
	RaftIndex       uint64    `json:"raftIndex"`
	RaftTerm        uint64    `json:"raftTerm"`
	Keys            int64     `json:"keys"`
	Hash            uint32    `json:"hash"`
	SnapshotBytes   int64     `json:"snapshotBytes"`
	StoredBytes     int64     `json:"storedBytes"`
	SnapshotSHA256  string    `json:"snapshotSHA256"`
	StoredSHA256    string    `json:"storedSHA256"`
	Compression     string    `json:"compression"`
	Encryption      string    `json:"encryption"`
	Verified        string    `json:"verified"`
}

// ParseResult reads a termination message. One that is no result, as of a
// process that was killed, is an error.
func ParseResult(message string) (*Result, error) {
	var w wireResult
	if err := json.Unmarshal([]byte(message), &w); err != nil {
		return nil, fmt.Errorf("read the result of a Job: %w", err)
	}
	r := &Result{OK: w.OK, Reason: word(w.Reason), Message: shortened(w.Message), Revision: w.Revision}
	if w.OK {
		r.Reason = ""
	}
	if w.Manifest != nil { // which a deletion has not
		r.Manifest, r.CreatedAt = w.Manifest.api(), w.Manifest.CreatedAt
	}
	return r, nil
}

func (m *wireManifest) api() *v1alpha1.BackupManifest {
	return &v1alpha1.BackupManifest{
		Format: m.Format, CreatedAt: metav1.NewTime(m.CreatedAt.Truncate(time.Second)), ClusterID: m.ClusterID, MemberID: m.MemberID,
		Version: m.Version, Revision: m.Revision, CompactRevision: m.CompactRevision,
		RaftIndex: signed(m.RaftIndex), RaftTerm: signed(m.RaftTerm), Keys: m.Keys, Hash: int64(m.Hash),
		SnapshotBytes: m.SnapshotBytes, StoredBytes: m.StoredBytes, SnapshotSHA256: m.SnapshotSHA256, StoredSHA256: m.StoredSHA256,
		Compression: m.Compression, Encryption: m.Encryption, Verified: m.Verified,
	}
}

// signed is a count as the API has it; no log gets that long.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// word makes a reason that conditions accept.
func word(reason string) string {
	out := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, reason)
	if out == "" {
		return "Failed"
	}
	return out
}

func shortened(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + " ..."
}
