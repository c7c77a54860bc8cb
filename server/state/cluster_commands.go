package state

import (
	"fmt"
	"slices"

	"github.com/coreos/go-semver/semver"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// alarm lists, raises or clears an alarm. The response holds the alarms listed,
// or the one that is on, or was cleared.
func (a *applier) alarm(body []byte) (proto.Message, error) {
	r := &pb.AlarmRequest{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	resp := &pb.AlarmResponse{Header: a.header()}
	one := alarm{kind: r.Alarm, member: r.MemberID}
	switch r.Action {
	case pb.AlarmRequest_GET:
		resp.Alarms = a.cluster.alarmMembers(r.Alarm)
	case pb.AlarmRequest_ACTIVATE:
		if r.Alarm != pb.AlarmType_NONE {
			a.setAlarm(one, true)
			resp.Alarms = []*pb.AlarmMember{one.proto()}
		}
	case pb.AlarmRequest_DEACTIVATE:
		if a.setAlarm(one, false) {
			resp.Alarms = []*pb.AlarmMember{one.proto()}
		}
	}
	return resp, nil
}

func (a *applier) setAlarm(one alarm, on bool) (changed bool) {
	next, changed := a.cluster.withAlarm(one, on)
	if changed {
		putAlarm(a.batch, a.group, one, on)
		a.cluster = next
	}
	return changed
}

// memberPublish notes a member's name and client URLs, which the member itself
// tells once it runs.
func (a *applier) memberPublish(body []byte) (proto.Message, error) {
	r, member, err := a.memberOf(body)
	if err != nil {
		return nil, err
	}
	member.Name, member.ClientURLs = r.Name, slices.Clone(r.ClientURLs)
	a.setMember(member)
	return a.memberResponse(), nil
}

// memberUpdate replaces a member's peer URLs.
func (a *applier) memberUpdate(body []byte) (proto.Message, error) {
	r, member, err := a.memberOf(body)
	if err != nil {
		return nil, err
	}
	if a.cluster.peerURLTaken(r.ID, r.PeerURLs) {
		return nil, ErrPeerURLExists
	}
	member.PeerURLs = slices.Clone(r.PeerURLs)
	a.setMember(member)
	return a.memberResponse(), nil
}

// memberOf decodes a request about a member and finds that member.
func (a *applier) memberOf(body []byte) (*pb.Member, Member, error) {
	r := &pb.Member{}
	if err := decode(body, r); err != nil {
		return nil, Member{}, err
	}
	if a.cluster.isRemoved(r.ID) {
		return nil, Member{}, ErrIDRemoved
	}
	i, found := a.cluster.find(r.ID)
	if !found {
		return nil, Member{}, ErrMemberNotFound
	}
	return r, a.cluster.members[i].Clone(), nil
}

func (a *applier) memberResponse() *pb.MemberUpdateResponse {
	return &pb.MemberUpdateResponse{Header: a.header(), Members: a.cluster.protoMembers()}
}

// clusterVersion sets the version whose features all members have. Its response
// is a StatusResponse that carries only the version.
func (a *applier) clusterVersion(body []byte) (proto.Message, error) {
	version, err := semver.NewVersion(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: cluster version %q: %w", ErrMalformed, body, err)
	}
	a.cluster = a.cluster.withVersion(version.String())
	putClusterVersion(a.batch, a.group, a.cluster.version)
	return &pb.StatusResponse{Header: a.header(), Version: a.cluster.version}, nil
}

// downgrade allows the cluster to go down to a version, or not any more.
func (a *applier) downgrade(body []byte) (proto.Message, error) {
	r := &pb.DowngradeInfo{}
	if err := decode(body, r); err != nil {
		return nil, err
	}
	target := ""
	if r.Enabled {
		v, err := semver.NewVersion(r.TargetVersion)
		if err != nil {
			return nil, fmt.Errorf("%w: downgrade to %q: %w", ErrMalformed, r.TargetVersion, err)
		}
		target = v.String()
	}
	a.cluster = a.cluster.withDowngrade(target)
	putDowngrade(a.batch, a.group, target)
	return &pb.DowngradeResponse{Header: a.header(), Version: a.cluster.version}, nil
}
