package node

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"metastore.io/metastore/server/peer"
)

// membersBarrier is how long serveMembers waits for the newest membership.
const membersBarrier = 200 * time.Millisecond

// serveMembers answers a member that wants to join, or to start anew: with the
// newest membership where there is a leader, else with what is known here.
func (n *Node) serveMembers(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), membersBarrier)
	defer cancel()
	if err := n.host.ReadBarrier(ctx); err != nil {
		// Without a leader what is known here still tells who has started
		// before; a joiner that is not in it asks again.
		n.c.Logger.Debug("members told without a leader", "error", err)
	}
	if n.host.Machine().ClusterID() == 0 {
		http.Error(w, "this member is joining itself and knows nobody yet", http.StatusServiceUnavailable)
		return
	}
	info := peer.ClusterInfo{ClusterID: strconv.FormatUint(n.host.Status().ClusterID, 16)}
	for _, m := range n.host.Machine().Members() {
		info.Members = append(info.Members, peer.MemberInfo{
			ID: strconv.FormatUint(m.ID, 16), Name: m.Name, PeerURLs: m.PeerURLs, Learner: m.Learner,
		})
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(info); err != nil {
		n.c.Logger.Debug("members not sent", "error", err)
	}
}
