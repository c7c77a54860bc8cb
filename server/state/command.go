package state

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"metastore.io/metastore/server/auth"
	"metastore.io/metastore/server/lease"
)

// Kind says what a command does and how its body is encoded. The numbers are
// part of the log's format.
type Kind uint8

// The body of each kind is the marshalled etcd request of that name; where it
// is something else the kind says so.
const (
	KindPut         Kind = 1
	KindDeleteRange Kind = 2
	KindTxn         Kind = 3
	KindCompact     Kind = 4
	// KindLeaseGrant carries a LeaseGrantRequest whose ID the proposer chose.
	KindLeaseGrant  Kind = 5
	KindLeaseRevoke Kind = 6
	KindAlarm       Kind = 7
	// KindMemberPublish carries an etcdserverpb.Member: ID, Name, ClientURLs.
	KindMemberPublish Kind = 8
	// KindMemberUpdate carries an etcdserverpb.Member: ID, PeerURLs.
	KindMemberUpdate Kind = 9
	// KindClusterVersion carries the version as text, for example "3.7.0".
	KindClusterVersion Kind = 10
	// KindLeaseExpire carries a term and many lease IDs, see LeaseExpire.
	KindLeaseExpire Kind = 11

	KindAuthEnable  Kind = 12
	KindAuthDisable Kind = 13
	// KindAuthenticate carries an InternalAuthenticateRequest: a user whose
	// password was checked, and the secret part of the token to come.
	KindAuthenticate Kind = 14
	// KindUserAdd and KindUserChangePassword carry the password's hash; the
	// password itself never gets into a command.
	KindUserAdd              Kind = 15
	KindUserDelete           Kind = 16
	KindUserChangePassword   Kind = 17
	KindUserGrantRole        Kind = 18
	KindUserRevokeRole       Kind = 19
	KindRoleAdd              Kind = 20
	KindRoleDelete           Kind = 21
	KindRoleGrantPermission  Kind = 22
	KindRoleRevokePermission Kind = 23

	// KindDowngrade carries a DowngradeInfo: what the cluster may go down to
	// from now on, or that it may not.
	KindDowngrade Kind = 24

	lastKind = KindDowngrade
)

// Command is one request to the state machine.
type Command struct {
	Kind Kind
	// By is who asks: what it may do is judged when the command is applied.
	By   auth.Identity
	Body []byte
}

// Result is the outcome of one command.
type Result struct {
	// Response is the etcd response of the request with Header.Revision set
	// and the other header fields empty. It is nil when Err is not.
	Response proto.Message
	// Err is a sentinel of state, mvcc, lease or auth: the command changed
	// nothing.
	Err error
}

// Entry is one committed raft entry. It carries commands or a membership
// change, not both; with neither it is the empty entry of a new leader.
type Entry struct {
	Index, Term uint64
	Commands    []Command
	Change      *MemberChange
}

// EntryResult is what one entry did: Results[i] belongs to Commands[i].
type EntryResult struct {
	Results []Result
	Change  ChangeResult
}

// ChangeResult tells what became of a membership change. Applied is false when
// the change was invalid when its turn came; Err then says why.
type ChangeResult struct {
	Applied bool
	Err     error
}

// RevisionEvents are the events of one revision, in order. Bare ones have no
// previous values: nobody wanted any when they were made.
type RevisionEvents struct {
	Rev    int64
	Events []*mvccpb.Event
	Bare   bool
}

// Outcome is what one call of Apply did.
type Outcome struct {
	// Entries[i] belongs to the i-th entry passed.
	Entries []EntryResult
	// Events of all revisions made, ascending.
	Events []RevisionEvents
	// Rev is the newest revision.
	Rev int64
	// ConfState is the membership after the last entry.
	ConfState ConfState
}

// Origin identifies one run of one member. Together with a sequence number it
// identifies a proposal across members and restarts.
type Origin struct {
	Member      uint64
	Incarnation uint64
}

// commandsVersion is the format of one entry's commands:
//
//	+---------+-----------+----------------+----------+-------+----------------
//	| version | member    | incarnation    | firstSeq | count | count commands
//	| 1 byte  | 8 B, BE   | 8 B, BE        | uvarint  | uvar. |
//	+---------+-----------+----------------+----------+-------+----------------
//	one command:
//	+---------+-------------+------+---------------+-------------+------+
//	| kind    | user length | user | auth revision | body length | body |
//	| 1 byte  | uvarint     |      | uvarint       | uvarint     |      |
//	+---------+-------------+------+---------------+-------------+------+
//
// User and auth revision say who asks; nobody is an empty user at revision 0.
// The i-th command has the sequence number firstSeq+i. Uvarints are minimal and
// nothing follows the last command, so that equal batches have equal bytes.
const commandsVersion = 1

// EncodeCommands encodes what one raft entry carries.
func EncodeCommands(origin Origin, firstSeq uint64, cmds []Command) []byte {
	size := 1 + 8 + 8 + 2*binary.MaxVarintLen64
	for _, c := range cmds {
		size += 1 + 2*binary.MaxVarintLen32 + len(c.By.User) + binary.MaxVarintLen64 + len(c.Body)
	}
	b := make([]byte, 0, size)
	b = append(b, commandsVersion)
	b = binary.BigEndian.AppendUint64(b, origin.Member)
	b = binary.BigEndian.AppendUint64(b, origin.Incarnation)
	b = binary.AppendUvarint(b, firstSeq)
	b = binary.AppendUvarint(b, uint64(len(cmds)))
	for _, c := range cmds {
		b = append(b, byte(c.Kind))
		b = appendString(b, c.By.User)
		b = binary.AppendUvarint(b, c.By.Revision)
		b = appendBytes(b, c.Body)
	}
	return b
}

// DecodeCommands is the inverse of EncodeCommands. The bodies alias data.
// Errors wrap ErrFormat.
func DecodeCommands(data []byte) (origin Origin, firstSeq uint64, cmds []Command, err error) {
	d := decoder{b: data}
	d.version(commandsVersion)
	origin = Origin{Member: d.uint64(), Incarnation: d.uint64()}
	firstSeq = d.uvarint()
	n := d.count(4) // a command takes four bytes at least
	if d.err == nil {
		cmds = make([]Command, n)
	}
	for i := range cmds {
		cmds[i] = Command{Kind: Kind(d.byte())}
		cmds[i].By = auth.Identity{User: string(d.bytes()), Revision: d.uvarint()}
		cmds[i].Body = d.bytes()
	}
	if err := d.end(); err != nil {
		return Origin{}, 0, nil, fmt.Errorf("decode commands: %w", err)
	}
	return origin, firstSeq, cmds, nil
}

// PeekOrigin reads only whose proposal an entry is; ok is false where the bytes
// are not those of EncodeCommands.
func PeekOrigin(data []byte) (origin Origin, firstSeq uint64, ok bool) {
	d := decoder{b: data}
	d.version(commandsVersion)
	origin = Origin{Member: d.uint64(), Incarnation: d.uint64()}
	firstSeq = d.uvarint()
	return origin, firstSeq, d.err == nil
}

// LeaseExpire is the command that revokes leases whose time was over on the
// leader of a term. Applied in an entry of any other term it changes nothing:
// the clocks of that term's leader count there, and it may have kept a lease
// alive. Its body is the term (8 bytes, big endian), a uvarint count, and that
// many IDs of 8 bytes, big endian.
func LeaseExpire(term uint64, ids []lease.ID) Command {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+binary.MaxVarintLen32+8*len(ids)), term)
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return Command{Kind: KindLeaseExpire, Body: b}
}

// decodeLeaseExpire is the inverse of LeaseExpire.
func decodeLeaseExpire(data []byte) (term uint64, ids []lease.ID, err error) {
	d := decoder{b: data}
	term = d.uint64()
	n := d.count(8)
	for i := 0; i < n && d.err == nil; i++ {
		ids = append(ids, lease.ID(d.uint64()))
	}
	if err := d.end(); err != nil {
		return 0, nil, fmt.Errorf("decode expired leases: %w", err)
	}
	return term, ids, nil
}
