package rpc

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.etcd.io/etcd/pkg/v3/runtime"
)

// serveVars shows what the process publishes, and etcd's two variables: they
// belong to this server, not to the process, so they are not published there.
func (s *Server) serveVars(w http.ResponseWriter, _ *http.Request) {
	var lines []string
	expvar.Do(func(v expvar.KeyValue) { lines = append(lines, fmt.Sprintf("%q: %s", v.Key, v.Value)) })
	for name, value := range map[string]any{"file_descriptor_limit": fileLimit(), "raft.status": s.raftStatus()} {
		if b, err := json.Marshal(value); err == nil {
			lines = append(lines, fmt.Sprintf("%q: %s", name, b))
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, "{\n%s\n}\n", strings.Join(lines, ",\n"))
}

func fileLimit() uint64 {
	n, _ := runtime.FDLimit() // 0 where it is not known
	return n
}

type raftStatus struct {
	ID      string `json:"id"`
	Term    uint64 `json:"term"`
	Commit  uint64 `json:"commit"`
	Lead    string `json:"lead"`
	State   string `json:"raftState"`
	Applied uint64 `json:"applied"`
}

func (s *Server) raftStatus() raftStatus {
	st := s.b.Status()
	hex := func(id uint64) string { return strconv.FormatUint(id, 16) }
	name := "StateFollower"
	if st.IsLeader() {
		name = "StateLeader"
	}
	return raftStatus{ID: hex(st.ID), Term: st.Term, Commit: st.Committed, Lead: hex(st.Leader), State: name, Applied: st.Applied}
}
